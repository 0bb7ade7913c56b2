{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "countersign.name" -}}
{{ .Release.Name }}
{{- end }}

{{- define "countersign.config" -}}
{{- $example := ternary "redis-epochs" .Values.store (eq (include "countersign.epochServer" .) "yes") }}
{{- if .Values.config }}{{ .Values.config }}{{ else }}{{ .Files.Get (printf "files/%s.toml" $example) }}{{ end }}
{{- end }}

{{- /* Whether the hourly keys are in a server of their own, and not on a volume. */}}
{{- define "countersign.epochServer" -}}
{{- if and (eq .Values.store "redis") .Values.epochServer.enabled }}yes{{ end }}
{{- end }}

{{- define "countersign.epochSelector" -}}
app.kubernetes.io/name: countersign-epochs
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "countersign.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "countersign.claim" -}}
{{- if .class }}
storageClassName: {{ .class }}
{{- end }}
accessModes: [{{ .mode }}]
resources:
  requests: {storage: {{ .size }}}
{{- end }}

{{- /* What a pod of the gateway is, whoever starts it. */}}
{{- define "countersign.pod" -}}
metadata:
  labels:
    {{- include "countersign.selector" . | nindent 4 }}
  annotations:
    # Another configuration is another pod.
    checksum/config: {{ include "countersign.config" . | sha256sum }}
spec:
  serviceAccountName: {{ include "countersign.name" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if eq .Values.store "redis" }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "countersign.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  containers:
    - name: countersign
      image: {{ include "countersign.image" . }}
      {{- with .Values.image.pullPolicy }}
      imagePullPolicy: {{ . }}
      {{- end }}
      ports:
        - {name: https, containerPort: 8443}
        - {name: admin, containerPort: 9464}
      # A start looks through the whole embedded store, or waits for Redis' replicas.
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      lifecycle:
        # New work goes elsewhere before it is refused here.
        preStop:
          sleep: {seconds: {{ .Values.preStopSeconds }}}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/countersign, readOnly: true}
        - {name: secrets, mountPath: /run/countersign/secrets, readOnly: true}
        - {name: tls, mountPath: /run/countersign/tls, readOnly: true}
        {{- if ne (include "countersign.epochServer" .) "yes" }}
        - {name: epochs, mountPath: /var/lib/countersign/epochs}
        {{- end }}
        {{- if eq .Values.store "embedded" }}
        - {name: store, mountPath: /var/lib/countersign/store}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "countersign.name" . }}}
    - name: secrets
      secret: {secretName: {{ .Values.secretName }}, defaultMode: 0440}
    - name: tls
      secret: {secretName: {{ .Values.tlsSecretName }}, defaultMode: 0440}
    {{- if and (eq .Values.store "redis") (ne (include "countersign.epochServer" .) "yes") }}
    - name: epochs
      persistentVolumeClaim:
        claimName: {{ .Values.volumes.existingEpochsClaim | default (printf "%s-epochs" (include "countersign.name" .)) }}
    {{- end }}
{{- end }}
