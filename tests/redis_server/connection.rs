//! RESP as a test needs it: one command at a time, any reply.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+`
    Status(String),
    /// `-`
    Error(String),
    /// `:`
    Integer(i64),
    /// `$`, text or not.
    Bulk(Vec<u8>),
    /// `*`
    Array(Vec<Reply>),
    /// A missing value.
    Nil,
}

impl Reply {
    /// A status, error or bulk as text; otherwise nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Integer(_) | Self::Array(_) | Self::Nil => String::new(),
        }
    }

    /// The parts of an array; otherwise none.
    pub fn parts(&self) -> &[Reply] {
        match self {
            Self::Array(parts) => parts,
            _ => &[],
        }
    }

    /// An integer.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }
}

/// A connection to one server.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to a port of this machine; with a password, authenticates as the default user.
    pub fn open(port: u16, password: Option<&str>) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, ANSWERS_WITHIN)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.set_nodelay(true)?;
        let mut connection = Self(BufReader::new(stream));
        if let Some(password) = password {
            match connection.command(&["AUTH", password])? {
                Reply::Status(_) => {}
                refused => return Err(io::Error::other(format!("{refused:?}"))),
            }
        }
        Ok(connection)
    }

    /// Sends a command and waits for its reply. A reply that is an error is a reply.
    pub fn command(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Nil,
            },
            "*" => match usize::try_from(number()?) {
                Ok(length) => Reply::Array((0..length).map(|_| self.reply()).collect::<Result<_, _>>()?),
                Err(_) => Reply::Nil,
            },
            _ => return Err(io::Error::other(format!("not RESP: {line}"))),
        })
    }
}
