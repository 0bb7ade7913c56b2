//! The `rfc9421` profile: coverage, times, keys.

use super::*;

fn rfc9421(made: &Made<'_>) -> Result<Verified, SignatureError> {
    let mut sender = sender(&[Profile::Rfc9421], SignatureRequired::MoneyRoutes);
    sender.sign_as("sig1", made);
    sender.verify()
}

#[test]
fn a_complete_rfc9421_signature_is_believed_by_id_and_by_thumbprint_and_needs_no_record() {
    assert_eq!(signed_by(rfc9421(&MADE)), ("ed".into(), Profile::Rfc9421, false));
    let p256 = Made { keyid: "p256", signer: 1, ..MADE };
    assert_eq!(signed_by(rfc9421(&p256)), ("p256".into(), Profile::Rfc9421, false));
    let target =
        Made { components: &["@method", "@target-uri", "content-digest", "idempotency-key"], ..MADE };
    assert_eq!(signed_by(rfc9421(&target)), ("ed".into(), Profile::Rfc9421, false));
    let mut sender = sender(&ALL, SignatureRequired::Always);
    let thumbprint = sender.signing[0].public().thumbprint();
    sender.sign_as("sig1", &Made { keyid: &thumbprint, ..MADE });
    assert_eq!(signed_by(sender.verify()).0, "ed");
}

#[test]
fn a_nonce_is_recorded() {
    assert!(signed_by(rfc9421(&Made { nonce: Some("n"), ..MADE })).2);
}

#[test]
fn on_a_money_route_every_part_must_be_covered() {
    for missing in COVERED {
        let components: Vec<_> = COVERED.into_iter().filter(|name| *name != missing).collect();
        let refused = rfc9421(&Made { components: &components, ..MADE });
        assert_eq!(refused, Err(SignatureError::CoverageInsufficient), "{missing}");
    }
}

#[test]
fn off_the_money_routes_method_place_and_body_must_be_covered_or_it_counts_as_none() {
    let request = ["@method", "@authority", "@path", "content-digest"];
    let made = |components, query: Option<&'static str>, body: &[u8], required| {
        let mut sender = sender(&ALL, required);
        (sender.money_route, sender.query, sender.body) = (false, query, body.to_vec().into());
        sender.sign_as("sig1", &Made { components, expires: None, nonce: Some("n"), ..MADE });
        sender.verify()
    };
    let always = SignatureRequired::Always;
    assert_eq!(signed_by(made(&request, None, BODY, always)).0, "ed");
    assert_eq!(signed_by(made(&["@method", "@target-uri"], Some("a=1"), b"", always)).0, "ed");
    assert_eq!(
        signed_by(made(&["@method", "@authority", "@path", "@query"], Some("a=1"), b"", always)).0,
        "ed"
    );
    let too_little: [(&[&str], _, &[u8]); 6] = [
        (&[], None, b""),
        (&["@authority"], None, b""),
        (&["@method", "@authority"], None, b""),
        (&["@authority", "@path"], None, b""),
        (&["@method", "@authority", "@path"], Some("a=1"), b""),
        (&["@method", "@authority", "@path"], None, BODY),
    ];
    for (components, query, body) in too_little {
        let refused = made(components, query, body, always);
        assert_eq!(refused, Err(SignatureError::CoverageInsufficient), "{components:?}");
        let passes = made(components, query, body, SignatureRequired::MoneyRoutes).unwrap();
        // What is signed with a nonce is for one request, however little it covers.
        let recorded = matches!(passes.proof(), Proof::BearerOnly { replay: Some(_) });
        assert!(recorded && passes.outcome() == VerificationOutcome::Absent, "{components:?}");
    }
}

#[test]
fn one_member_of_a_header_does_not_cover_the_header() {
    let mut sender = sender(&ALL, SignatureRequired::Always);
    sender.sign_as(
        "sig1",
        &Made { components: &["@method", "@authority", "@path", "idempotency-key"], ..MADE },
    );
    let input = sender.headers[SIGNATURE_INPUT].to_str().unwrap().to_owned();
    sender.set(
        "signature-input",
        &input.replace("\"idempotency-key\"", "\"idempotency-key\" \"content-digest\";key=\"sha-256\""),
    );
    assert_eq!(sender.verify(), Err(SignatureError::CoverageInsufficient));
}

#[test]
fn times_are_kept_to_the_window() {
    let at = |seconds: i64| Timestamp::from_unix_seconds(NOW.unix_seconds() + seconds);
    let made = |created, expires| rfc9421(&Made { created, expires, ..MADE }).map(drop);
    assert_eq!(made(at(-299), Some(300)), Ok(()));
    assert_eq!(made(at(300), Some(300)), Ok(()));
    assert_eq!(made(at(-301), Some(300)), Err(SignatureError::OutsideWindow));
    assert_eq!(made(at(301), Some(300)), Err(SignatureError::OutsideWindow));
    assert_eq!(made(at(-100), Some(100)), Err(SignatureError::Expired));
    assert_eq!(made(at(0), Some(301)), Err(SignatureError::LifetimeNotAccepted));
    assert_eq!(made(at(0), Some(-1)), Err(SignatureError::LifetimeNotAccepted));
    assert_eq!(made(at(0), None), Err(SignatureError::ParameterMissing));
}

#[test]
fn only_the_senders_own_public_keys_of_the_named_algorithm_count() {
    let keyid = |keyid| rfc9421(&Made { keyid, ..MADE }).map(drop);
    assert_eq!(keyid("another"), Err(SignatureError::UnknownKey));
    assert_eq!(keyid("hmac"), Err(SignatureError::WrongAlgorithm));
    assert_eq!(keyid("p256"), Err(SignatureError::Invalid));
    let mut sender = sender(&ALL, SignatureRequired::Always);
    sender.sign_as("sig1", &MADE);
    let input = sender.headers[SIGNATURE_INPUT].to_str().unwrap().to_owned();
    sender.set("signature-input", &(input.clone() + ";alg=\"ecdsa-p256-sha256\""));
    assert_eq!(sender.verify(), Err(SignatureError::WrongAlgorithm));
    sender.set("signature-input", &input.replace(";keyid=\"ed\"", ""));
    assert_eq!(sender.verify(), Err(SignatureError::ParameterMissing));
}

#[test]
fn of_several_signatures_all_of_ours_verify_and_one_suffices() {
    let mut sender = sender(&ALL, SignatureRequired::Always);
    sender.sign_as("bot", &Made { components: &["@authority"], expires: None, ..MADE });
    assert_eq!(sender.verify(), Err(SignatureError::CoverageInsufficient));
    sender.sign_as("pay", &Made { keyid: "p256", signer: 1, ..MADE });
    sender.sign_as("proxy", &Made { keyid: "stranger", ..MADE });
    assert_eq!(signed_by(sender.verify()).0, "p256");
    sender.sign_as("bad", &Made { keyid: "ed", signer: 1, ..MADE });
    assert_eq!(sender.verify(), Err(SignatureError::Invalid));
}
