//! The answers in these tables are OPA's. The key and the signed text of EdDSA are those of RFC 8037.

use super::tests::{Fails, Json, check};

#[test]
fn tokens_are_read_and_verified() {
    check(&[
        (
            r#"io.jwt.decode("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M")"#,
            Json(
                r#"[{"alg": "HS256"}, {"aud": ["x", "y"], "exp": 2000, "iss": "a", "nbf": 1000.5}, "985c97b3ceb9d6b0ef87aa8a385fc3437cbea82d5b20a107c10b0fc2b892cb43"]"#,
            ),
        ),
        (
            r#"io.jwt.decode("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA")"#,
            Json(
                r#"[{"alg": "HS512", "typ": "JWT"}, {"sub": "b"}, "b907024e2a8aac86fb28d6443ec96c9b4b2c85e43922c80ce25e63cd762caa27d0218f7f2260ea3b4b79a54393fdedb0ff5ab14e4ae32061119efd7725d60c48"]"#,
            ),
        ),
        (
            r#"io.jwt.decode("eyJhbGciOiJIUzI1NiIsImN0eSI6IkpXVCJ9.ZXlKaGJHY2lPaUpJVXpJMU5pSjkuZXlKemRXSWlPaUpwYmlKOS4wb2VnV0lBT2ZNNFFVTzdLYmk4VlhPYWVieWxuU1l6ckZHR0g5ZnVuMDlz.dBd42l-WmtSBl_oO9Kp-AH2Sgi2uAMWPlGAvB7CtTdc")"#,
            Json(
                r#"[{"alg": "HS256"}, {"sub": "in"}, "d287a058800e7cce1050eeca6e2f155ce69e6f2967498ceb146187f5fba7d3db"]"#,
            ),
        ),
        (r#"io.jwt.decode("a.b")"#, Fails("io.jwt.decode: encoded JWT must have 3 sections, found 2")),
        (
            r#"io.jwt.decode("YQ.YQ.YQ")"#,
            Fails("io.jwt.decode: JWT header is no JSON: expected value at line 1 column 1"),
        ),
        (
            r#"io.jwt.decode("eyJhbGciOiJIUzI1NiIsImVuYyI6IngifQ.e30.KuBJmifHbDuclaXXvhU3oL5meWWI-FTHwt8Gm2-a2rg")"#,
            Fails("io.jwt.decode: JWT is a JWE object, which is not supported"),
        ),
        (
            r#"io.jwt.verify_hs256("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", "secret")"#,
            Json("true"),
        ),
        (
            r#"io.jwt.verify_hs256("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", "other")"#,
            Json("false"),
        ),
        (
            r#"io.jwt.verify_hs512("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", "secret")"#,
            Json("true"),
        ),
        (
            r#"io.jwt.verify_hs256("a.b", "secret")"#,
            Fails("io.jwt.verify_hs256: encoded JWT must have 3 sections, found 2"),
        ),
        (
            r#"io.jwt.verify_rs256("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", "no key")"#,
            Fails("io.jwt.verify_rs256: failed to parse a PEM key"),
        ),
        (
            r#"io.jwt.verify_rs256("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", "{\"kty\":\"RSA\"}")"#,
            Fails("io.jwt.verify_rs256: failed to parse a JWK key (set)"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "time": 1500000000000})"#,
            Json(r#"[true, {"alg": "HS256"}, {"aud": ["x", "y"], "exp": 2000, "iss": "a", "nbf": 1000.5}]"#),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "iss": "a", "alg": "HS256", "time": 1500000000000})"#,
            Json(r#"[true, {"alg": "HS256"}, {"aud": ["x", "y"], "exp": 2000, "iss": "a", "nbf": 1000.5}]"#),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "z", "time": 1500000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "time": 1500000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "iss": "b", "time": 1500000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "alg": "HS512", "time": 1500000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "time": 2000000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x", "time": 1000400000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "secret", "aud": "x"})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIiwiYXVkIjpbIngiLCJ5Il0sImV4cCI6MjAwMCwibmJmIjoxMDAwLjV9.mFyXs8651rDvh6qKOF_DQ3y-qC1bIKEHwQsPwriSy0M", {"secret": "wrong", "aud": "x", "time": 1500000000000})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {"secret": "secret"})"#,
            Json(r#"[true, {"alg": "HS512", "typ": "JWT"}, {"sub": "b"}]"#),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {"secret": "secret", "iss": "b"})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiIsImN0eSI6IkpXVCJ9.ZXlKaGJHY2lPaUpJVXpJMU5pSjkuZXlKemRXSWlPaUpwYmlKOS4wb2VnV0lBT2ZNNFFVTzdLYmk4VlhPYWVieWxuU1l6ckZHR0g5ZnVuMDlz.dBd42l-WmtSBl_oO9Kp-AH2Sgi2uAMWPlGAvB7CtTdc", {"secret": "secret"})"#,
            Json(r#"[true, {"alg": "HS256"}, {"sub": "in"}]"#),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsieiJdfQ.e30.tNh6f0PyslQP7uU5n5oGEdSuwS6gFGgPv71fLdm7bAU", {"secret": "secret"})"#,
            Json(r#"[true, {"alg": "HS256", "crit": ["z"]}, {}]"#),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJub25lIn0.e30.K5fUbCOH9sO36oYAO2K4X-L0PdIX_krQaQtpuNIHgXo", {"secret": "secret"})"#,
            Json("[false, {}, {}]"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {"secret": "secret", "cert": "x"})"#,
            Fails("io.jwt.decode_verify: duplicate key constraints"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {})"#,
            Fails("io.jwt.decode_verify: no key constraint"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {"secret": "secret", "what": 1})"#,
            Fails("io.jwt.decode_verify: unknown token validation constraint: what"),
        ),
        (
            r#"io.jwt.decode_verify("eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJiIn0.uQcCTiqKrIb7KNZEPslsm0ssheQ5IsgM4l5jzXYsqifQIY9_ImDqO0t5pUOT_e2w_1qxTkrjIGERnv13JdYMSA", {"cert": "no key"})"#,
            Fails("io.jwt.decode_verify: failed to parse a PEM key"),
        ),
    ]);
}

#[test]
fn keys_are_read_from_pem_and_json() {
    check(&[
        (
            r#"io.jwt.verify_eddsa("eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.AAAA", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----")"#,
            Json("false"),
        ),
        (
            r#"io.jwt.verify_eddsa("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}")"#,
            Json("true"),
        ),
        (
            r#"io.jwt.verify_eddsa("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----")"#,
            Json("true"),
        ),
        (
            r#"io.jwt.verify_rs256("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----")"#,
            Json("false"),
        ),
        (
            r#"io.jwt.verify_eddsa("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg", "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\nmore")"#,
            Fails("io.jwt.verify_eddsa: extra data after a PEM block"),
        ),
    ]);
}
