use proptest::prelude::*;

use super::*;

fn shown(text: &str) -> String {
    fn show(value: &Value<'_>) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Flag(flag) => flag.to_string(),
            Value::Whole { number, .. } => number.to_string(),
            Value::Other(words) => words.clone(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|item| show(&item.value)).collect::<Vec<_>>().join(","))
            }
            Value::Table(members) => {
                let pairs: Vec<_> =
                    members.iter().map(|m| format!("{}@{}:{}", m.key, m.at, show(&m.value))).collect();
                format!("{{{}}}", pairs.join(","))
            }
        }
    }
    match parse(text) {
        Ok(node) => show(&node.value),
        Err(NotJson { at, message }) => format!("{at}: {message}"),
    }
}

#[test]
fn every_kind_of_value_is_read_with_its_place() {
    for (text, expected) in [
        (" null\n", "null"),
        ("[true,\tfalse , [ ] ]", "[true,false,[]]"),
        ("{ \"a\" : { } ,\r\n\"b\":-0}", "{a@2:{},b@15:0}"),
        ("-120", "-120"),
        ("[0.5,1e3,-0E+7,10.25e-1]", "[the number 0.5,the number 1e3,the number -0E+7,the number 10.25e-1]"),
        ("99999999999999999999999999999999999999999", "170141183460469231731687303715884105727"),
        (r#""\"\\\/\b\f\n\r\té\u00e9\uD83D\udd25 ""#, r#""\"\\/\u{8}\u{c}\n\r\téé🔥 ""#),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn what_the_grammar_does_not_have_is_refused_at_its_place() {
    for (text, expected) in [
        ("", "0: expected a JSON value, found the end"),
        ("nul", "0: expected a JSON value, found 'n'"),
        ("True", "0: expected a JSON value, found 'T'"),
        ("[1,]", "3: expected a JSON value, found ']'"),
        ("[1 2]", "3: expected a comma or ], found '2'"),
        ("{\"a\":1,}", "7: expected a key in double quotes, found '}'"),
        ("{a:1}", "1: expected a key in double quotes, found 'a'"),
        ("{'a':1}", "1: expected a key in double quotes, found '\\''"),
        ("{\"a\" 1}", "5: expected a colon, found '1'"),
        ("{\"a\":1;}", "6: expected a comma or }, found ';'"),
        ("{\"a\":1,\"\\u0061\":2}", "7: duplicate key"),
        ("{} {}", "3: expected nothing more, found '{'"),
        ("01", "1: expected nothing more, found '1'"),
        ("-", "1: expected a digit, found the end"),
        ("+1", "0: expected a JSON value, found '+'"),
        (".5", "0: expected a JSON value, found '.'"),
        ("1.", "2: expected a digit, found the end"),
        ("1e", "2: expected a digit, found the end"),
        ("NaN", "0: expected a JSON value, found 'N'"),
        ("// no\n1", "0: expected a JSON value, found '/'"),
        ("\"a", "2: expected a closing quote, found the end"),
        ("\"a\nb\"", "2: expected no control character in a string, found '\\n'"),
        ("\"\\x\"", "2: expected one of \"\\/bfnrtu behind a backslash, found 'x'"),
        ("\"\\u12é4\"", "5: expected four hexadecimal digits, found 'é'"),
        ("\"\\ud83d\"", "1: expected both halves of a surrogate pair"),
        ("\"\\ud83d\\u0041\"", "1: expected both halves of a surrogate pair"),
        ("\"\\udd25\"", "1: expected both halves of a surrogate pair"),
        ("\u{feff}{}", "0: expected a JSON value, found '\\u{feff}'"),
        ("\u{a0}1", "0: expected a JSON value, found '\\u{a0}'"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn depth_and_members_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(shown(&nested(MAX_DEPTH + 1)), "32: expected at most 32 levels");
    assert!(parse(&"[".repeat(1 << 20)).is_err());
    let object = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"{n}\":0")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(parse(&object(MAX_MEMBERS)).is_ok());
    assert!(shown(&object(MAX_MEMBERS + 1)).ends_with(": expected at most 1024 keys"));
    // Beside each other is not inside each other.
    assert!(parse(&format!("[{}1]", "[[]],".repeat(100))).is_ok());
}

#[derive(Clone, Debug)]
enum Model {
    Null,
    Flag(bool),
    Whole(i64),
    Text(String),
    List(Vec<Model>),
    Table(std::collections::BTreeMap<String, Model>),
}

fn model() -> impl Strategy<Value = Model> {
    let leaf = prop_oneof![
        Just(Model::Null),
        any::<bool>().prop_map(Model::Flag),
        any::<i64>().prop_map(Model::Whole),
        any::<String>().prop_map(Model::Text),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Model::List),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..5).prop_map(Model::Table),
        ]
    })
}

/// Every character of a string as `\u`, or as itself where the grammar lets it: `escape` decides.
fn write_string(text: &str, escape: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if escape || c < ' ' || c == '"' || c == '\\' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                *out += &format!("\\u{unit:04X}");
            }
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

fn write(model: &Model, escape: bool, blank: &str, out: &mut String) {
    *out += blank;
    match model {
        Model::Null => *out += "null",
        Model::Flag(flag) => *out += &flag.to_string(),
        Model::Whole(number) => *out += &number.to_string(),
        Model::Text(text) => write_string(text, escape, out),
        Model::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                *out += if index > 0 { "," } else { "" };
                write(item, escape, blank, out);
            }
            *out += blank;
            out.push(']');
        }
        Model::Table(members) => {
            out.push('{');
            *out += blank;
            for (index, (key, value)) in members.iter().enumerate() {
                *out += if index > 0 { "," } else { "" };
                *out += blank;
                write_string(key, escape, out);
                *out += blank;
                out.push(':');
                write(value, escape, blank, out);
            }
            *out += blank;
            out.push('}');
        }
    }
    *out += blank;
}

fn is_model(value: &Value<'_>, model: &Model) -> bool {
    match (value, model) {
        (Value::Null, Model::Null) => true,
        (Value::Flag(a), Model::Flag(b)) => a == b,
        (Value::Whole { number, .. }, Model::Whole(expected)) => *number == i128::from(*expected),
        (Value::Text(a), Model::Text(b)) => a == b,
        (Value::List(a), Model::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_model(&a.value, b))
        }
        (Value::Table(a), Model::Table(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, (key, b))| a.key == *key && is_model(&a.value, b))
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn what_is_written_by_the_grammar_reads_as_itself(
        model in model(), escape: bool, blank in prop::sample::select(vec!["", " ", "\r\n\t"])
    ) {
        let mut text = String::new();
        write(&model, escape, blank, &mut text);
        let read = parse(&text);
        prop_assert!(read.as_ref().is_ok_and(|node| is_model(&node.value, &model)), "{} gave {:?}", text, read);
    }

    #[test]
    fn any_text_is_a_tree_or_a_fault_inside_it(text in "(\\PC|[\\[\\]{}\",:\\\\0-9eu. \n]){0,40}") {
        if let Err(wrong) = parse(&text) {
            prop_assert!(text.is_char_boundary(wrong.at) && !wrong.message.contains('\n'));
        }
    }

    #[test]
    fn a_text_that_is_cut_short_is_refused(model in model(), cut in any::<prop::sample::Index>()) {
        let mut text = String::new();
        write(&Model::List(vec![model]), false, "", &mut text);
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        prop_assert!(parse(&text[..ends[cut.index(ends.len())]]).is_err());
    }
}
