//! The profiles of ACP's own header.

use super::*;

#[test]
fn acp_bound_signs_what_we_publish_with_each_kind_of_key() {
    let timestamp = NOW.to_rfc3339();
    for (id, signer) in [("ed", Some(0)), ("p256", Some(1)), ("hmac", None)] {
        let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
        let text = format!("{timestamp}.POST.{PATH}.k-1.{{\"a\":\"x\",\"b\":1}}");
        let signature = match signer {
            Some(index) => sender.signing[index].sign(text.as_bytes()).unwrap(),
            None => MacKey::new(b"shared").tag(&[text.as_bytes()]).into(),
        };
        sender.set("timestamp", &timestamp);
        sender.set("signature", &URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(signed_by(sender.verify()), (id.into(), Profile::AcpBound, true));
    }
}

#[test]
fn acp_bound_covers_a_request_without_body_and_key() {
    let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
    (sender.method, sender.body, sender.key, sender.money_route) = ("GET".into(), Bytes::new(), None, false);
    let text = format!("{}.GET.{PATH}..", NOW.to_rfc3339());
    sender.set("timestamp", &NOW.to_rfc3339());
    sender.set("signature", &URL_SAFE.encode(MacKey::new(b"shared").tag(&[text.as_bytes()])));
    assert_eq!(signed_by(sender.verify()), ("hmac".into(), Profile::AcpBound, false));
}

#[test]
fn an_idempotency_key_that_could_be_part_of_the_path_cannot_be_bound() {
    let mut sender = sender(&[Profile::AcpBound], SignatureRequired::Always);
    sender
        .sign_acp(Profile::AcpBound, &NOW.to_rfc3339(), |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
    sender.key = Some("a.b".into());
    assert_eq!(sender.verify(), Err(SignatureError::Ambiguous));
}

#[test]
fn an_acp_signature_over_an_empty_body_counts_as_none() {
    let mut sender = sender(&[Profile::Acp], SignatureRequired::MoneyRoutes);
    sender.body.clear();
    sender.sign_acp(Profile::Acp, &NOW.to_rfc3339(), |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
    assert_eq!(sender.verify(), Err(SignatureError::Required));
    sender.money_route = false;
    assert_eq!(sender.verify().unwrap().proof(), &Proof::BearerOnly { replay: None });
    sender.agent.signature.profiles = [Profile::Acp, Profile::AcpBound].into();
    assert_eq!(sender.verify().unwrap().proof(), &Proof::BearerOnly { replay: None });
}

#[test]
fn a_bad_signature_over_an_empty_body_is_invalid_whatever_profiles_are_allowed() {
    for profiles in [&[Profile::AcpBound][..], &[Profile::Acp], &[Profile::AcpBound, Profile::Acp]] {
        let mut sender = sender(profiles, SignatureRequired::MoneyRoutes);
        (sender.method, sender.body, sender.key, sender.money_route) =
            ("GET".into(), Bytes::new(), None, false);
        sender.sign_acp(Profile::AcpBound, &NOW.to_rfc3339(), |bytes| {
            MacKey::new(b"other").tag(&[bytes]).into()
        });
        assert_eq!(sender.verify(), Err(SignatureError::Invalid), "{profiles:?}");
    }
}

#[test]
fn the_variants_met_in_the_field_verify_as_configured_and_not_otherwise() {
    let unix = NOW.unix_seconds().to_string();
    let rfc3339 = NOW.to_rfc3339();
    let raw = std::str::from_utf8(BODY).unwrap();
    let hex = |tag: &[u8]| tag.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let variants = [
        (SignedParts::TimestampBody, BodyForm::Raw, Encoding::Hex, TimestampForm::UnixSeconds),
        (SignedParts::TimestampBody, BodyForm::Raw, Encoding::Base64, TimestampForm::Rfc3339),
        (SignedParts::Body, BodyForm::Raw, Encoding::Base64Url, TimestampForm::Rfc3339),
        (SignedParts::TimestampBody, BodyForm::Canonical, Encoding::Hex, TimestampForm::Rfc3339),
        (SignedParts::TimestampMethodPathBody, BodyForm::Raw, Encoding::Base64, TimestampForm::UnixSeconds),
    ]
    .map(|(signed, body, encoding, timestamp)| AcpVariant { signed, body, encoding, timestamp });
    let texts = [
        format!("{unix}.{raw}"),
        format!("{rfc3339}.{raw}"),
        raw.to_owned(),
        format!("{rfc3339}.{{\"a\":\"x\",\"b\":1}}"),
        format!("{unix}POST{PATH}{raw}"),
    ];
    for (made, text) in variants.iter().zip(&texts) {
        let mut sender = sender(&[Profile::Acp], SignatureRequired::Always);
        let tag = MacKey::new(b"shared").tag(&[text.as_bytes()]);
        let encoded = match made.encoding {
            Encoding::Hex => hex(&tag),
            Encoding::Base64 => STANDARD.encode(tag),
            Encoding::Base64Url => URL_SAFE.encode(tag),
        };
        let timestamp = if made.timestamp == TimestampForm::Rfc3339 { &rfc3339 } else { &unix };
        sender.set("timestamp", timestamp);
        sender.set("signature", &encoded);
        for configured in &variants {
            sender.agent.signature.acp = *configured;
            assert_eq!(sender.verify().is_ok(), made == configured, "{made:?} as {configured:?}");
        }
        sender.agent.signature.acp = *made;
        sender.set("signature", &encoded.to_ascii_uppercase());
        assert!(sender.verify().is_err(), "{made:?}");
    }
}

#[test]
fn acp_timestamps_are_kept_to_the_window() {
    for (seconds, passes) in [(-300, true), (300, true), (-301, false), (301, false)] {
        let mut sender = sender(&[Profile::Acp], SignatureRequired::Always);
        let timestamp = Timestamp::from_unix_seconds(NOW.unix_seconds() + seconds).to_rfc3339();
        sender.sign_acp(Profile::Acp, &timestamp, |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
        let refused = sender.verify().map(drop);
        assert_eq!(refused, if passes { Ok(()) } else { Err(SignatureError::OutsideWindow) }, "{seconds}");
    }
}
