// SPDX-License-Identifier: Apache-2.0
//! Just enough JSON to read the golden file: integers only, trusted input.

#![allow(clippy::expect_used)]

#[derive(Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Json {
        let mut reader = Reader { rest: text };
        reader.value()
    }

    pub fn get(&self, name: &str) -> &Json {
        match self {
            Json::Map(pairs) => &pairs.iter().find(|(key, _)| key == name).expect(name).1,
            other => panic!("no map: {:?}", other),
        }
    }

    pub fn items(&self) -> &[Json] {
        match self {
            Json::List(items) => items,
            other => panic!("no list: {:?}", other),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            other => panic!("no text: {:?}", other),
        }
    }

    pub fn number(&self) -> i128 {
        match self {
            Json::Number(number) => *number,
            other => panic!("no number: {:?}", other),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn value(&mut self) -> Json {
        match self.peek() {
            'n' => self.word("null", Json::Null),
            't' => self.word("true", Json::Bool(true)),
            'f' => self.word("false", Json::Bool(false)),
            '"' => Json::Text(self.text()),
            '[' => self.list(),
            '{' => self.map(),
            _ => self.number(),
        }
    }

    fn peek(&mut self) -> char {
        self.rest = self.rest.trim_start();
        self.rest.chars().next().expect("more JSON")
    }

    fn next_char(&mut self) -> char {
        let char = self.rest.chars().next().expect("more JSON");
        self.rest = &self.rest[char.len_utf8()..];
        char
    }

    fn word(&mut self, word: &str, value: Json) -> Json {
        self.rest = self.rest.strip_prefix(word).expect(word);
        value
    }

    fn number(&mut self) -> Json {
        let is_part = |char: char| char == '-' || char.is_ascii_digit();
        let end = self.rest.find(|char| !is_part(char)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        Json::Number(digits.parse().expect("a number"))
    }

    fn text(&mut self) -> String {
        let mut units = Vec::new();
        assert_eq!(self.next_char(), '"');
        loop {
            match self.next_char() {
                '"' => return String::from_utf16(&units).expect("UTF-16"),
                '\\' => units.push(self.escape()),
                char => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> u16 {
        match self.next_char() {
            'n' => 10,
            't' => 9,
            'u' => {
                let (hex, rest) = self.rest.split_at(4);
                self.rest = rest;
                u16::from_str_radix(hex, 16).expect("hex")
            }
            other => u16::try_from(u32::from(other)).expect("ASCII"),
        }
    }

    fn list(&mut self) -> Json {
        let mut items = Vec::new();
        self.next_char();
        while self.peek() != ']' {
            items.push(self.value());
            self.comma();
        }
        self.next_char();
        Json::List(items)
    }

    fn map(&mut self) -> Json {
        let mut pairs = Vec::new();
        self.next_char();
        while self.peek() != '}' {
            let key = self.text();
            assert_eq!(self.peek(), ':');
            self.next_char();
            pairs.push((key, self.value()));
            self.comma();
        }
        self.next_char();
        Json::Map(pairs)
    }

    fn comma(&mut self) {
        if self.peek() == ',' {
            self.next_char();
        }
    }
}
