//! Behaviour of the canonical forms: RFC 8785's own examples, refusals and bounds.

use super::*;

pub(super) fn canonical(input: &str) -> Result<String, JsonError> {
    form(canonicalize, input.as_bytes())
}

pub(super) fn exact(input: &str) -> Result<String, JsonError> {
    form(exact_form, input.as_bytes())
}

pub(super) type Write = fn(&[u8], &mut Vec<u8>) -> Result<(), JsonError>;

pub(super) fn form(write: Write, input: &[u8]) -> Result<String, JsonError> {
    let mut out = Vec::new();
    write(input, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn unhex(hex: &serde_json::Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_official_vectors_give_the_official_bytes() {
    let Some(directory) = std::env::var_os("ACP_SPEC_DIR") else {
        eprintln!("skipped: ACP_SPEC_DIR is not set");
        return;
    };
    let path = std::path::Path::new(&directory).join("../vectors/jcs.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    // One file has a number that no double holds. We refuse it, and agree on the rest of the file.
    let (inexact, shortest) = ("333333333.33333329", "333333333.3333333");
    let mut refused = 0;
    for file in vectors["files"].as_array().unwrap() {
        let mut input = String::from_utf8(unhex(&file["input_hex"])).unwrap();
        if let Some(at) = input.find(inexact) {
            assert_eq!(canonical(&input), Err(JsonError::InexactNumber(at)));
            input = input.replace(inexact, shortest);
            refused += 1;
        }
        assert_eq!(canonical(&input).unwrap().as_bytes(), unhex(&file["expected_hex"]), "{}", file["name"]);
    }
    assert_eq!(refused, 1);
    for pair in vectors["numbers"].as_array().unwrap() {
        let bits = u64::from_str_radix(pair[0].as_str().unwrap(), 16).unwrap();
        assert_number(bits, pair[1].as_str().unwrap());
    }
}

/// The double is spelled `expected`, and any other spelling of that value gives `expected` too.
fn assert_number(bits: u64, expected: &str) {
    assert_eq!(expected.parse::<f64>().unwrap(), f64::from_bits(bits));
    assert_eq!(canonical(expected).unwrap(), expected);
    let respelled = exact(expected).unwrap();
    assert_eq!(canonical(&respelled).unwrap(), expected, "{respelled}");
}

/// RFC 8785 appendix B, without NaN and Infinity, which JSON cannot spell.
const APPENDIX_B: [(u64, &str); 26] = [
    (0x0000_0000_0000_0000, "0"),
    (0x8000_0000_0000_0000, "0"),
    (0x0000_0000_0000_0001, "5e-324"),
    (0x8000_0000_0000_0001, "-5e-324"),
    (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
    (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
    (0x4340_0000_0000_0000, "9007199254740992"),
    (0xc340_0000_0000_0000, "-9007199254740992"),
    (0x4430_0000_0000_0000, "295147905179352830000"),
    (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
    (0x44b5_2d02_c7e1_4af6, "1e+23"),
    (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
    (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
    (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
    (0x444b_1ae4_d6e2_ef50, "1e+21"),
    (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
    (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
    (0x41b3_de43_5555_5553, "333333333.3333332"),
    (0x41b3_de43_5555_5554, "333333333.33333325"),
    (0x41b3_de43_5555_5555, "333333333.3333333"),
    (0x41b3_de43_5555_5556, "333333333.3333334"),
    (0x41b3_de43_5555_5557, "333333333.33333343"),
    (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
    (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    // Ours: the ends of the normal and the subnormal doubles.
    (0x0010_0000_0000_0000, "2.2250738585072014e-308"),
    (0x000f_ffff_ffff_ffff, "2.225073858507201e-308"),
];

#[test]
fn numbers_are_written_as_the_rfc_tabulates_them() {
    for (bits, expected) in APPENDIX_B {
        assert_number(bits, expected);
    }
}

#[test]
fn members_are_sorted_by_utf_16_code_units_of_their_unescaped_names() {
    let input = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
    let expected = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}";
    assert_eq!(canonical(input).unwrap(), expected);
    assert_eq!(
        canonical(r##"{"]":1,"\\":2,"[":3,"\"":4,"!":5,"#":6}"##).unwrap(),
        r##"{"!":5,"\"":4,"#":6,"[":3,"\\":2,"]":1}"##
    );
    assert_eq!(
        canonical(r#"{"aa":1,"a":2,"":3,"a\n":4,"A":5}"#).unwrap(),
        r#"{"":3,"A":5,"a":2,"a\n":4,"aa":1}"#
    );
    let nested = r#" { "b" : [ { "d" : { } , "c" : [ ] } , 1 ] , "a" : { "z" : null , "y" : { "x" : true , "w" : false } } } "#;
    let sorted = r#"{"a":{"y":{"w":false,"x":true},"z":null},"b":[{"c":[],"d":{}},1]}"#;
    assert_eq!(canonical(nested).unwrap(), sorted);
}

#[test]
fn every_refusal_names_its_reason_and_its_offset() {
    use JsonError::*;
    let cases: &[(&[u8], JsonError)] = &[
        (b"", UnexpectedEnd(0)),
        (b" \n", UnexpectedEnd(2)),
        (b"\xEF\xBB\xBF{}", ByteOrderMark(0)),
        (b"[\xEF\xBB\xBF]", Syntax(1)),
        (b"\"a\xFF\"", InvalidUtf8(2)),
        (b"\"\xED\xA0\x80\"", InvalidUtf8(1)),
        (b"\"\xC0\x80\"", InvalidUtf8(1)),
        (b"{} {}", TrailingBytes(3)),
        (b"1,", TrailingBytes(1)),
        (b"null\0", TrailingBytes(4)),
        (b"[1,]", Syntax(3)),
        (b"[1 2]", Syntax(3)),
        (b"[1", UnexpectedEnd(2)),
        (b"{\"a\":1,}", Syntax(7)),
        (b"{\"a\" 1}", Syntax(5)),
        (b"{\"a\":}", Syntax(5)),
        (b"{a:1}", Syntax(1)),
        (b"{1:1}", Syntax(1)),
        (b"{\"a\"", UnexpectedEnd(4)),
        (b"[\x0b1]", Syntax(1)),
        (b"['a']", Syntax(1)),
        (b"[tru]", Syntax(1)),
        (b"[nulL]", Syntax(1)),
        (b"[NaN]", Syntax(1)),
        (b"[-Infinity]", Syntax(2)),
        (b"[+1]", Syntax(1)),
        (b"[01]", Syntax(2)),
        (b"[-012]", Syntax(3)),
        (b"[.5]", Syntax(1)),
        (b"[1.]", Syntax(3)),
        (b"[1.e2]", Syntax(3)),
        (b"[1e]", Syntax(3)),
        (b"[1e+]", Syntax(4)),
        (b"[-]", Syntax(2)),
        (b"-", UnexpectedEnd(1)),
        (b"1e", UnexpectedEnd(2)),
        (b"[0x10]", Syntax(2)),
        (b"{\"a\":1,\"a\":1}", DuplicateName(7)),
        (b"{\"a\":1,\"\\u0061\":1}", DuplicateName(7)),
        (b"{\"\\n\":1,\"\\u000A\":1}", DuplicateName(8)),
        (b"{\"b\":1,\"a\":1,\"c\":2,\"b\":1}", DuplicateName(19)),
        (b"{\"b\":1,\"a\":{\"b\":1},\"b\":1}", DuplicateName(19)),
        (b"{\"a\\u0000\":1}", NulInName(1)),
        (b"[\"\\ud800\"]", LoneSurrogate(2)),
        (b"{\"\\udc00\":1}", LoneSurrogate(2)),
        (b"[1e401]", ExponentTooLarge(1)),
        (b"[0e-401]", ExponentTooLarge(1)),
        (b"[1e99999999999999999999]", ExponentTooLarge(1)),
        (b"[1, 123456789012345678901234567890123]", TooManyDigits(4)),
        (b"[0.00000000000000000000000000000001]", TooManyDigits(1)),
        (b"[9007199254740993]", InexactNumber(1)),
        (b"[-0.1000000000000000055]", InexactNumber(1)),
        (b"[295147905179352825856]", InexactNumber(1)),
        // As close to its double as the accepted one that ends in 2; the even digit wins.
        (b"[1424953923781206.3]", InexactNumber(1)),
        (b"[1e309]", InexactNumber(1)),
        (b"[1e400]", InexactNumber(1)),
        (b"[1e-400]", InexactNumber(1)),
        (b"[4e-324]", InexactNumber(1)),
    ];
    for (input, error) in cases {
        let text = String::from_utf8_lossy(input);
        assert_eq!(form(canonicalize, input), Err(*error), "{text}");
        assert_eq!(form(exact_form, input), Err(*error), "{text}");
        assert_eq!(check(input), Err(*error), "{text}");
    }
}

#[test]
fn a_duplicate_is_named_at_its_second_place_in_an_object_of_any_length() {
    for length in [2, 30, 300] {
        // Backwards, so that they have to be sorted, and the first name once more at the end.
        let names: Vec<_> = (0..length).rev().chain([length - 1]).map(|n| format!("\"{n:03}\":0")).collect();
        let input = format!("{{{}}}", names.join(","));
        assert_eq!(check(input.as_bytes()), Err(JsonError::DuplicateName(1 + length * 8)), "{length}");
    }
}

#[test]
fn bounds_hold_to_the_last_and_refuse_one_more() {
    let nested = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
    assert_eq!(check(nested("[", "]", MAX_DEPTH).as_bytes()), Ok(()));
    assert_eq!(check(nested("[", "]", MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep(MAX_DEPTH)));
    assert_eq!(check(nested("{\"a\":", "}", MAX_DEPTH).as_bytes()), Ok(()));
    assert_eq!(
        check(nested("{\"a\":", "}", MAX_DEPTH + 1).as_bytes()),
        Err(JsonError::TooDeep(MAX_DEPTH * 5))
    );
    // Siblings do not add up.
    assert_eq!(check(format!("[{}]", vec!["[]"; 100].join(",")).as_bytes()), Ok(()));

    let array = |values| format!("[{}]", vec!["1"; values].join(","));
    assert_eq!(check(array(MAX_NODES - 1).as_bytes()), Ok(()));
    assert_eq!(check(array(MAX_NODES).as_bytes()), Err(JsonError::TooManyNodes(2 * MAX_NODES - 1)));

    let digits = "1".to_owned() + &"0".repeat(MAX_NUMBER_DIGITS - 1);
    assert_eq!(canonical(&digits).unwrap(), "1e+31");
    assert_eq!(check((digits + "0").as_bytes()), Err(JsonError::TooManyDigits(0)));
    assert_eq!(canonical("0e400").unwrap(), "0");
    assert_eq!(canonical("0e-0000400").unwrap(), "0");
}

#[test]
fn the_output_is_appended_and_left_alone_on_refusal() {
    let mut out = b"before.".to_vec();
    canonicalize(br#"{"b":1,"a":2}"#, &mut out).unwrap();
    assert_eq!(out, br#"before.{"a":2,"b":1}"#);
    canonicalize(br#"{"b":1,"a":2} x"#, &mut out).unwrap_err();
    assert_eq!(out, br#"before.{"a":2,"b":1}"#);
}

#[test]
fn the_exact_form_tells_values_apart_and_spellings_not() {
    let same: &[&[&str]] = &[
        &["0", "-0", "0.0", "-0.00", "0e5", "0E-5"],
        &["1", "1.0", "10e-1", "0.1e1", "1e0", "1E+00"],
        &["100", "1e2", "100.00", "0.01e4", "1000e-1"],
        &["-1500", "-15e2", "-1.5E3"],
        &["0.1", "1e-1", "0.10", "100e-3"],
        &["9007199254740992", "9.007199254740992e15"],
        &["null"],
        &["{}"],
        &[r#"{"a":null}"#],
        &["[1,2]", "[ 1.0 , 20e-1 ]"],
        &["[2,1]"],
        &[r#""1""#, r#""\u0031""#],
        &[r#""\u00e9""#, r#""é""#],
        &[r#""e\u0301""#],
        &[r#"{"a":1,"b":[]}"#, r#"{"\u0062":[],"a":1e0}"#],
    ];
    let mut forms = std::collections::BTreeSet::new();
    for spellings in same {
        let first = exact(spellings[0]).unwrap();
        for spelling in *spellings {
            assert_eq!(exact(spelling).unwrap(), first, "{spelling}");
        }
        assert!(forms.insert(first), "{}", spellings[0]);
    }
    assert_eq!(
        exact("[1500, 10.50, -0.25, 1e300, 7, -20, 0]").unwrap(),
        "[15e2,105e-1,-25e-2,1e300,7,-2e1,0]"
    );
}

#[test]
fn no_message_repeats_the_input() {
    let card = br#"{"number":"4242424242424242" "#;
    let error = check(card).unwrap_err();
    assert_eq!(error.to_string(), "the document is cut off at byte 29");
    assert_eq!(error.offset(), 29);
}
