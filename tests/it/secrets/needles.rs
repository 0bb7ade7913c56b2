//! What to look for, in every spelling in which it would still be the secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::world::World;

/// Cards that the tests mint with: good ones, a declined one, one whose checksum is wrong.
pub const CARDS: [&str; 7] = [
    "4012888888881881",
    "5555555555554444",
    "378282246310005",
    "6011000990139424",
    "4000056655665556",
    "4000000000000002",
    "4012888888881882",
];
/// A number that is no funding card's: a network token.
pub const NETWORK_TOKEN: &str = "4895370012003478";
/// Of that token, used once.
pub const CRYPTOGRAM: &str = "gXc5UCLnM6ckD7pjM1TdPA==";
/// A security code. Four digits stand anywhere by chance, so it is looked for beside its name.
pub const CVC: &str = "9173";
/// The cardholder, who is named nowhere else.
pub const HOLDER: &str = "Zebulon Quixote";

/// Secrets and how they might be written.
pub struct Needles {
    texts: Vec<(String, String)>,
    /// What is not text.
    raw: Vec<(String, Vec<u8>)>,
}

impl Needles {
    /// All secrets of a world.
    pub fn of(world: &World) -> Self {
        let mut needles = Self { texts: Vec::new(), raw: Vec::new() };
        for card in CARDS.into_iter().chain([NETWORK_TOKEN]) {
            needles.card(card);
        }
        needles.text("the cryptogram", CRYPTOGRAM);
        needles.text("the cardholder", HOLDER);
        for beside in [format!("cvc\":\"{CVC}"), format!("CVC {CVC}"), format!("CVC: {CVC}")] {
            needles.text("the security code", &beside);
        }
        for credential in world.credentials() {
            needles.text("an agent's credential", &credential);
        }
        needles.text("a redeemer's credential", world.redeemer.expose());
        let file = |name: &str| std::fs::read_to_string(world.directory.path().join(name)).unwrap();
        for name in ["lamps.credential", "books.credential"] {
            needles.text(name, &file(name));
        }
        for ring in ["sealing", "fingerprint", "card_fingerprint", "derivation"] {
            let hex = file(&format!("{ring}.key"));
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            needles.bytes(&format!("the {ring} key"), &bytes);
        }
        for pem in [file("signing.pem"), std::fs::read_to_string(&world.certificates.key_file).unwrap()] {
            // The line that holds the private half.
            let line = pem.lines().nth(1).unwrap();
            needles.text("a private key", line);
        }
        needles
    }

    fn card(&mut self, number: &str) {
        self.text(&format!("card {number}"), number);
        let groups: Vec<_> =
            number.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap()).collect();
        for separator in [" ", "-", ".", "\u{a0}", "%20", "+"] {
            self.texts.push((format!("card {number} in groups"), groups.join(separator)));
        }
        let spaced: Vec<_> = number.chars().map(String::from).collect();
        self.texts.push((format!("card {number} in digits"), spaced.join(" ")));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.texts.push((name.to_owned(), text.to_owned()));
        self.texts.push((format!("{name} backwards"), text.chars().rev().collect()));
        self.bytes(name, text.as_bytes());
    }

    /// Also looks for these bytes.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.texts.push((format!("{name} in upper hex"), hex.to_ascii_uppercase()));
        self.texts.push((format!("{name} in hex"), hex));
        let list: Vec<_> = bytes.iter().map(u8::to_string).collect();
        // As Rust prints bytes.
        self.texts.push((format!("{name} as a list"), list.join(", ")));
        for before in 0..3 {
            let shifted = [&[0; 2][..before], bytes].concat();
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                // Characters that depend on these bytes alone.
                let (first, last) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
                self.texts.push((format!("{name} in base64"), encoded[first..last].to_owned()));
            }
        }
        if let Ok(text) = std::str::from_utf8(bytes) {
            self.texts.push((name.to_owned(), text.to_owned()));
        } else {
            self.raw.push((name.to_owned(), bytes.to_vec()));
        }
    }

    /// Which of them stand in some bytes.
    pub fn find_in(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let found = self.texts.iter().filter(|(_, needle)| text.contains(needle.as_str()));
        let raw = self.raw.iter().filter(|(_, needle)| bytes.windows(needle.len()).any(|at| at == needle));
        let names = found.map(|(name, _)| name).chain(raw.map(|(name, _)| name));
        names.map(|name| format!("{place}: {name}")).collect()
    }
}

#[test]
fn what_is_hidden_is_found() {
    let mut needles = Needles { texts: Vec::new(), raw: Vec::new() };
    needles.card(CARDS[0]);
    needles.text("the cryptogram", CRYPTOGRAM);
    for hidden in [
        format!("x{}y", CARDS[0]),
        "4012-8888-8888-1881".to_owned(),
        "4012 8888 8888 1881".to_owned(),
        STANDARD_NO_PAD.encode(format!("a{}b", CARDS[0])),
        STANDARD_NO_PAD.encode(format!("ab{}", CARDS[0])),
        URL_SAFE_NO_PAD.encode(format!("{{\"cryptogram\":\"{CRYPTOGRAM}\"}}")),
        CARDS[0].bytes().map(|byte| format!("{byte:02x}")).collect(),
        format!("{:?}", CARDS[0].as_bytes()),
    ] {
        assert!(!needles.find_in("", hidden.as_bytes()).is_empty(), "{hidden}");
    }
    assert!(needles.find_in("", b"4012888888881880").is_empty());
}
