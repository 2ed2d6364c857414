//! JSON and YAML texts, and JSON Schema.

use super::{Answer, Builtin, BuiltinError, wrong};
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{Draft, ValidationError, Validator};
use regorus::Value;
use serde_json::Value as Json;

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("json.is_valid", 1, json_is_valid),
    ("json.match_schema", 2, match_schema),
    ("json.verify_schema", 1, verify_schema),
    ("yaml.is_valid", 1, yaml_is_valid),
];

fn json_is_valid(operands: &[Value]) -> Answer {
    Ok(matches!(&operands[0], Value::String(text) if Value::from_json_str(text).is_ok()).into())
}

fn yaml_is_valid(operands: &[Value]) -> Answer {
    Ok(matches!(&operands[0], Value::String(text) if Value::from_yaml_str(text).is_ok()).into())
}

/// An object as it is, a text as the JSON that it holds.
fn json(operands: &[Value], index: usize) -> Result<Json, BuiltinError> {
    match &operands[index] {
        Value::String(text) => serde_json::from_str(text).map_err(|_| BuiltinError::failed("invalid JSON string")),
        value @ Value::Object(_) => {
            serde_json::to_value(value).map_err(|error| BuiltinError::failed(error.to_string()))
        }
        _ => Err(wrong(operands, index, "one of {string, object}")),
    }
}

/// `[true, null]`, or `[false, why]`.
fn verify_schema(operands: &[Value]) -> Answer {
    if !matches!(operands[0], Value::String(_) | Value::Object(_)) {
        return Err(wrong(operands, 0, "one of {string, object}"));
    }
    let why = match json(operands, 0) {
        Ok(schema) => compile(&schema).err(),
        Err(error) => Some(error.to_string()),
    };
    Ok(match why {
        None => vec![true.into(), Value::Null],
        Some(why) => vec![false.into(), format!("jsonschema: {why}").into()],
    }
    .into())
}

/// `[true, []]`, or `[false, errors]`: each with `desc`, `error`, `field` and `type`, in OPA's words. Of a combination (`anyOf` and
/// the like) only the combination is told, where OPA adds what is wrong with one of its parts.
fn match_schema(operands: &[Value]) -> Answer {
    let document = json(operands, 0)?;
    let schema = json(operands, 1)?;
    let validator = compile(&schema).map_err(BuiltinError::Failed)?;
    let mut errors: Vec<ValidationError> = validator.iter_errors(&document).collect();
    // Of the whole before its parts.
    errors.sort_by_key(|error| error.instance_path().as_str().matches('/').count());
    let told: Vec<Value> = errors.iter().flat_map(|error| tell(error, &schema, &document)).collect();
    Ok(vec![told.is_empty().into(), told.into()].into())
}

/// OPA reads schemas as draft 7 unless they say draft 4 or 6, and checks formats.
fn compile(schema: &Json) -> Result<Validator, String> {
    if let Some(unknown) = unknown_type(schema) {
        return Err(format!(
            "has a primitive type that is NOT VALID -- given: /{unknown}/ Expected valid values are:[array boolean integer \
             number null object string]"
        ));
    }
    let draft = match schema["$schema"].as_str().unwrap_or_default() {
        said if said.contains("draft-04") => Draft::Draft4,
        said if said.contains("draft-06") => Draft::Draft6,
        _ => Draft::Draft7,
    };
    // Nothing is fetched: a reference to elsewhere is an error.
    let options = jsonschema::options().with_draft(draft).should_validate_formats(true);
    options.build(schema).map_err(|error| error.to_string())
}

/// The first type in a schema that is none.
fn unknown_type(schema: &Json) -> Option<String> {
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    let unknown = |value: &Json| value.as_str().filter(|name| !TYPES.contains(name)).map(str::to_owned);
    let schema = schema.as_object()?;
    let own = schema.get("type").and_then(|types| match types {
        Json::Array(types) => types.iter().find_map(unknown),
        one => unknown(one),
    });
    let many = ["properties", "patternProperties", "definitions"].into_iter().filter_map(|name| schema.get(name));
    let single = ["items", "additionalProperties", "additionalItems", "not", "contains", "if", "then", "else"];
    own.or_else(|| many.filter_map(Json::as_object).flat_map(|named| named.values()).find_map(unknown_type))
        .or_else(|| single.into_iter().filter_map(|name| schema.get(name)).find_map(unknown_type))
        .or_else(|| {
            let lists =
                ["items", "allOf", "anyOf", "oneOf"].into_iter().filter_map(|name| schema.get(name)?.as_array());
            lists.flatten().find_map(unknown_type)
        })
}

fn not_allowed<'a>(property: &str) -> (&'a str, String) {
    ("additional_property_not_allowed", format!("Additional property {property} is not allowed"))
}

fn tell(error: &ValidationError, schema: &Json, document: &Json) -> Vec<Value> {
    let path = error.instance_path().as_str();
    let parts: Vec<String> = path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
    let field = if parts.is_empty() { "(Root)".to_owned() } else { parts.join(".") };
    let keyword = error.schema_path().as_str();
    let mut many: Vec<(&str, String)> = Vec::new();
    let one = match error.kind() {
        Kind::Type { kind } => {
            let expected = match (kind, schema.pointer(keyword)) {
                (TypeKind::Single(expected), _) => expected.to_string(),
                (TypeKind::Multiple(_), Some(Json::Array(types))) => {
                    format!("[{}]", types.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(","))
                }
                (TypeKind::Multiple(types), _) => {
                    format!("[{}]", types.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(","))
                }
            };
            ("invalid_type", format!("Invalid type. Expected: {expected}, given: {}", given(error.instance())))
        }
        Kind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            if keyword.contains("/dependencies") {
                ("missing_dependency", format!("Has a dependency on {property}"))
            } else {
                ("required", format!("{property} is required"))
            }
        }
        Kind::AdditionalProperties { unexpected } => {
            many.extend(unexpected.iter().skip(1).map(|property| not_allowed(property)));
            not_allowed(unexpected.first().map_or("", String::as_str))
        }
        Kind::FalseSchema if keyword.ends_with("/additionalProperties") => {
            // None is allowed: those that are there, of the object at this place.
            let properties =
                document.pointer(path).and_then(Json::as_object).into_iter().flat_map(|object| object.keys());
            many.extend(properties.skip(1).map(|property| not_allowed(property)));
            let first = document.pointer(path).and_then(Json::as_object).and_then(|object| object.keys().next());
            not_allowed(first.map_or("", String::as_str))
        }
        Kind::UniqueItems => {
            let items = error.instance().as_array().map(Vec::as_slice).unwrap_or_default();
            let pair = items.iter().enumerate().find_map(|(at, item)| {
                items[..at].iter().position(|earlier| earlier == item).map(|earlier| (earlier, at))
            });
            let (first, second) = pair.unwrap_or_default();
            ("unique", format!("array items[{first},{second}] must be unique"))
        }
        Kind::Enum { options } => {
            let allowed: Vec<String> = options.as_array().into_iter().flatten().map(Json::to_string).collect();
            ("enum", format!("{field} must be one of the following: {}", allowed.join(", ")))
        }
        Kind::Constant { expected_value } => ("const", format!("{field} does not match: {expected_value}")),
        Kind::Minimum { limit } => ("number_gte", format!("Must be greater than or equal to {limit}")),
        Kind::Maximum { limit } => ("number_lte", format!("Must be less than or equal to {limit}")),
        Kind::ExclusiveMinimum { limit } => ("number_gt", format!("Must be greater than {limit}")),
        Kind::ExclusiveMaximum { limit } => ("number_lt", format!("Must be less than {limit}")),
        Kind::MultipleOf { .. } => {
            let multiple = schema.pointer(keyword).map(Json::to_string).unwrap_or_default();
            ("multiple_of", format!("Must be a multiple of {multiple}"))
        }
        Kind::MinLength { limit } => ("string_gte", format!("String length must be greater than or equal to {limit}")),
        Kind::MaxLength { limit } => ("string_lte", format!("String length must be less than or equal to {limit}")),
        Kind::Pattern { pattern } => ("pattern", format!("Does not match pattern '{pattern}'")),
        Kind::Format { format } => ("format", format!("Does not match format '{format}'")),
        Kind::MinItems { limit } => ("array_min_items", format!("Array must have at least {limit} items")),
        Kind::MaxItems { limit } => ("array_max_items", format!("Array must have at most {limit} items")),
        Kind::MinProperties { limit } => ("array_min_properties", format!("Must have at least {limit} properties")),
        Kind::MaxProperties { limit } => ("array_max_properties", format!("Must have at most {limit} properties")),
        Kind::Contains => ("contains", "At least one of the items must match".to_owned()),
        Kind::Not { .. } => ("number_not", "Must not validate the schema (not)".to_owned()),
        Kind::AnyOf { .. } => ("number_any_of", "Must validate at least one schema (anyOf)".to_owned()),
        Kind::OneOfMultipleValid { .. } | Kind::OneOfNotValid { .. } => {
            ("number_one_of", "Must validate one and only one schema (oneOf)".to_owned())
        }
        other => (other.keyword(), error.to_string()),
    };
    many.insert(0, one);
    many.into_iter()
        .map(|(kind, description)| {
            let told = [
                ("desc", description.clone()),
                ("error", format!("{field}: {description}")),
                ("field", field.clone()),
                ("type", kind.to_owned()),
            ];
            let told: std::collections::BTreeMap<Value, Value> =
                told.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
            told.into()
        })
        .collect()
}

fn given(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_f64() && number.as_f64().is_none_or(|number| number.fract() != 0.0) => {
            "number"
        }
        Json::Number(_) => "integer",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}
