//! Asks the admin API as a program does, and holds every answer against the document that the daemon itself serves.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::http::{Connection, Reply};
use super::within;

/// The API of one daemon.
pub struct Api {
    admin: SocketAddr,
    document: Value,
    token: Option<String>,
}

impl Api {
    /// Without a token.
    pub async fn of(admin: SocketAddr) -> Self {
        Self::with(admin, None).await
    }

    /// With a token.
    pub async fn with(admin: SocketAddr, token: Option<&str>) -> Self {
        let token = token.map(str::to_owned);
        let bare = Self { admin, document: Value::Null, token };
        let reply = bare.raw("GET", "/api/v1/openapi.json", &[], "").await;
        assert_eq!(reply.status, 200);
        Self { document: reply.json(), ..bare }
    }

    /// What is answered, whatever it is.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut connection = Connection::open(self.admin).await.expect("the admin side listens");
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let bearer = bearer.as_deref().map(|bearer| ("authorization", bearer));
        let headers: Vec<_> = headers.iter().copied().chain(bearer).collect();
        let asked = connection.ask(method, path, &headers, body.to_owned());
        within("an answer of the API", asked).await.expect("an answer")
    }

    /// What is answered with a documented status and in the documented shape.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let json = [("content-type", "application/json")];
        let headers = if body.is_empty() { &[][..] } else { &json[..] };
        let reply = self.raw(method, &format!("/api/v1/{path}"), headers, &body).await;
        self.check(method, path, &reply);
        (reply.status, reply.json())
    }

    /// What is there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// What a change answers, and its status.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask("POST", path, Some(body)).await
    }

    /// Every item of a list, page by page.
    pub async fn all(&self, path: &str, limit: usize) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{mark}limit={limit}{cursor}")).await;
            let found = page["items"].as_array().expect("a list");
            assert!(found.len() <= limit, "{} items", found.len());
            items.extend(found.iter().cloned());
            let Some(next) = page["next"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    /// Holds an answer against the document.
    pub fn check(&self, method: &str, path: &str, reply: &Reply) {
        let path = path.split('?').next().unwrap_or_default();
        let operation = self.operation(path, &method.to_lowercase());
        let status = reply.status.to_string();
        let answer = self.resolved(&operation["responses"][&status]);
        assert!(!answer.is_null(), "{method} {path} answered {status}, which is not documented");
        let kind = reply.headers["content-type"].to_str().expect("text");
        let kind = kind.split(';').next().unwrap_or_default();
        let schema = &answer["content"][kind]["schema"];
        assert!(!schema.is_null(), "{method} {path} answered {kind}, which is not documented");
        if kind.ends_with("json") {
            let mut wrong = Vec::new();
            self.compare(schema, &reply.json(), "$", &mut wrong);
            assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}");
        }
    }

    fn operation(&self, path: &str, method: &str) -> &Value {
        let parts: Vec<_> = path.split('/').collect();
        let fits = |template: &str| {
            let template = template.trim_start_matches("/api/v1/");
            let wanted: Vec<_> = template.split('/').collect();
            wanted.len() == parts.len()
                && wanted.iter().zip(&parts).all(|(w, p)| w == p || w.starts_with('{'))
        };
        let paths = self.document["paths"].as_object().expect("paths");
        // One that is named whole comes before one with a variable part.
        let mut found: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
        found.sort_by_key(|(template, _)| template.contains('{'));
        let (_, operations) = found.first().unwrap_or_else(|| panic!("{path} is not documented"));
        &operations[method]
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.trim_start_matches('#');
                self.document.pointer(pointer).unwrap_or_else(|| panic!("no {reference}"))
            }
            None => schema,
        }
    }

    /// What of a value is not as its schema says; a member that the schema does not name is wrong, too.
    fn compare(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &Value| {
                let mut wrong = Vec::new();
                self.compare(choice, value, at, &mut wrong);
                wrong.is_empty()
            };
            if choices.iter().filter(|choice| fits(choice)).count() != 1 {
                wrong.push(format!("{at}: {value} is not one of the documented forms"));
            }
            return;
        }
        let several = schema["type"].as_array().into_iter().flatten();
        let kinds: Vec<_> =
            schema["type"].as_str().into_iter().chain(several.filter_map(Value::as_str)).collect();
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(value, kind)) {
            wrong.push(format!("{at}: {value} is no {}", kinds.join(" or ")));
        }
        if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            wrong.push(format!("{at}: {value} is not a documented word"));
        }
        if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
            for (index, value) in values.iter().enumerate() {
                self.compare(items, value, &format!("{at}[{index}]"), wrong);
            }
            let least = schema["minItems"].as_u64().unwrap_or(0);
            if (values.len() as u64) < least {
                wrong.push(format!("{at} has less than {least} items"));
            }
        }
        if let (Some(known), Value::Object(members)) = (schema["properties"].as_object(), value) {
            self.compare_members(schema, known, (members, at), wrong);
        }
    }

    fn compare_members(
        &self,
        schema: &Value,
        known: &Map<String, Value>,
        (members, at): (&Map<String, Value>, &str),
        wrong: &mut Vec<String>,
    ) {
        for (name, value) in members {
            match known.get(name) {
                Some(schema) => self.compare(schema, value, &format!("{at}.{name}"), wrong),
                None => wrong.push(format!("{at}.{name} is not documented")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !members.contains_key(name.as_str().expect("a name")) {
                wrong.push(format!("{at} has no {name}"));
            }
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind} is no type"),
    }
}

/// The one field of each item.
pub fn each(items: &[Value], field: &str) -> Vec<String> {
    let text = |item: &Value| item[field].as_str().expect("a text").to_owned();
    items.iter().map(text).collect()
}

/// An empty JSON object.
pub fn nothing() -> Value {
    json!({})
}

#[test]
fn what_is_not_documented_is_noticed() {
    let document = json!({
        "components": {"schemas": {"A": {"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": ["integer", "null"]},
            "b": {"type": "array", "minItems": 1, "items": {"enum": ["x"]}},
            "c": {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
        }}}},
    });
    let admin = "127.0.0.1:1".parse().expect("an address");
    let api = Api { admin, document, token: None };
    let wrong = |value: Value| {
        let mut wrong = Vec::new();
        api.compare(&json!({"$ref": "#/components/schemas/A"}), &value, "$", &mut wrong);
        wrong.len()
    };
    assert_eq!(wrong(json!({"a": null, "b": ["x"], "c": true})), 0);
    for (value, count) in [
        (json!({"a": "1", "b": ["x"]}), 1),
        (json!({"a": 1}), 1),
        (json!({"a": 1, "b": ["y", "x"]}), 1),
        (json!({"a": 1, "b": []}), 1),
        (json!({"a": 1, "b": ["x"], "d": 1}), 1),
        (json!({"a": 1, "b": ["x"], "c": 1}), 1),
        (json!([]), 1),
    ] {
        assert_eq!(wrong(value.clone()), count, "{value}");
    }
}
