//! Builtins that no decision may use, because it would depend on more than the policy, its data and its input, or because we
//! cannot answer as OPA does. Each says so; none is quietly undefined.

use super::{Answer, Builtin, BuiltinError};
use regorus::Value;

const NETWORK: &str = "a decision must not depend on the network: fetch it before, into data";
const GRAPHQL: &str = "GraphQL is not supported here: validate such documents before, into data";
const SIGNING: &str = "signing is not supported here: a decision needs no keys of its own";
const CERTIFICATES: &str = "certificates and keys are not read by policies here: read them before, into data";
const ADDRESSES: &str = "addresses are not taken apart here: use a regular expression";
const TEMPLATES: &str = "Go's templates are not supported here: use sprintf or an interpolated text";
const MODULES: &str = "policies cannot be parsed by policies here";

macro_rules! refused {
    ($($name:literal $arity:literal $reason:ident,)*) => {
        pub(super) const REASONS: &[(&str, &str)] = &[$(($name, $reason)),*];
        pub(super) const FUNCTIONS: &[Builtin] = &[$(($name, $arity, {
            fn refuse(_: &[Value]) -> Answer {
                Err(BuiltinError::Refused($reason))
            }
            refuse
        })),*];
    };
}

refused! {
    "crypto.parse_private_keys" 1 CERTIFICATES,
    "crypto.x509.parse_and_verify_certificates" 1 CERTIFICATES,
    "crypto.x509.parse_and_verify_certificates_with_options" 2 CERTIFICATES,
    "crypto.x509.parse_certificate_request" 1 CERTIFICATES,
    "crypto.x509.parse_certificates" 1 CERTIFICATES,
    "crypto.x509.parse_keypair" 2 CERTIFICATES,
    "crypto.x509.parse_rsa_private_key" 1 CERTIFICATES,
    "graphql.is_valid" 2 GRAPHQL,
    "graphql.parse" 2 GRAPHQL,
    "graphql.parse_and_verify" 2 GRAPHQL,
    "graphql.parse_query" 1 GRAPHQL,
    "graphql.parse_schema" 1 GRAPHQL,
    "graphql.schema_is_valid" 1 GRAPHQL,
    "http.send" 1 NETWORK,
    "io.jwt.encode_sign" 3 SIGNING,
    "io.jwt.encode_sign_raw" 3 SIGNING,
    "providers.aws.sign_req" 3 SIGNING,
    "rego.parse_module" 2 MODULES,
    "strings.render_template" 2 TEMPLATES,
    "uri.is_valid" 1 ADDRESSES,
    "uri.parse" 1 ADDRESSES,
}
