// Reads objects of Prometheus' operator as a JSON list and prints what is wrong with them.
const schemas = "@kubernetes-models/prometheus-operator/_schemas/MonitoringCoreosComV1";
const objects = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
for (const object of objects) {
  const { validate } = require(`${process.argv[2]}/node_modules/${schemas}${object.kind}.js`);
  if (!validate(object)) {
    console.log(object.kind, object.metadata.name, JSON.stringify(validate.errors));
  }
}
