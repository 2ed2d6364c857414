//! API tokens: only the digest of the secret is kept.

use crate::db::params;
use crate::journal::NewEvent;
use crate::{Durability, Result, Store};
use serde::Serialize;
use windlass_model::Micros;

type Row = (String, String, String, String, i64, i64, Option<i64>, Option<i64>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    pub id: String,
    pub name: String,
    /// Who made it, as recorded.
    pub owner: String,
    /// What the use cases keep about it, as JSON.
    pub record: String,
    pub created_at: Micros,
    pub expires_at: Micros,
    /// To the minute.
    pub used_at: Option<Micros>,
    pub revoked_at: Option<Micros>,
}

fn row((id, name, owner, record, created_at, expires_at, used_at, revoked_at): Row) -> TokenRow {
    TokenRow { id, name, owner, record, created_at, expires_at, used_at, revoked_at }
}

/// How often the use of a token is written down, µs.
const USED: Micros = 60_000_000;

impl Store {
    /// Stores a new token; its id comes back.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn token_create(
        &self,
        digest: &str,
        name: &str,
        owner: &str,
        record: &str,
        expires_at: Micros,
    ) -> Result<TokenRow> {
        let id = ulid::Ulid::generate().to_string().to_lowercase();
        let (digest, name, owner, record) = (digest.to_owned(), name.to_owned(), owner.to_owned(), record.to_owned());
        let scope = self.scope.clone();
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            tx.execute(
                "INSERT INTO tokens (id, digest, name, owner, record, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                params![&id, &digest, &name, &owner, &record, now, expires_at],
            )?;
            let subject = format!("token {id}");
            let data = serde_json::json!({ "name": name, "expires_at": expires_at });
            let event = NewEvent { subject: Some(&subject), actor: Some(&owner), ..NewEvent::of("token.created", data) };
            scope.event(tx, event)?;
            let (id, name, owner, record) = (id.clone(), name.clone(), owner.clone(), record.clone());
            Ok(TokenRow { id, name, owner, record, created_at: now, expires_at, used_at: None, revoked_at: None })
        })
        .await
    }

    /// The token with this digest, when it is good now. That it was used is noted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn token_use(&self, digest: &str) -> Result<Option<TokenRow>> {
        let digest = digest.to_owned();
        let found: Option<(TokenRow, Micros)> = self
            .read(move |tx| {
                let now = tx.now()?;
                let found: Option<Row> = tx.row(
                    "SELECT id, name, owner, record, created_at, expires_at, used_at, revoked_at FROM tokens
                     WHERE digest = $1 AND expires_at > $2 AND revoked_at IS NULL",
                    params![&digest, now],
                )?;
                Ok(found.map(|found| (row(found), now)))
            })
            .await?;
        let Some((token, now)) = found else { return Ok(None) };
        if token.used_at.is_none_or(|used| now - used >= USED) {
            let id = token.id.clone();
            self.write(Durability::Lazy, move |tx| {
                tx.execute("UPDATE tokens SET used_at = $1 WHERE id = $2", params![now, &id]).map(drop)
            })
            .await?;
        }
        Ok(Some(token))
    }

    /// Tokens of an owner, or of everybody; newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn token_list(&self, owner: Option<&str>) -> Result<Vec<TokenRow>> {
        let owner = owner.map(str::to_owned);
        let found: Vec<Row> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT id, name, owner, record, created_at, expires_at, used_at, revoked_at FROM tokens
                     WHERE CAST($1 AS TEXT) IS NULL OR owner = $1 ORDER BY id DESC",
                    params![owner.as_deref()],
                )
            })
            .await?;
        Ok(found.into_iter().map(row).collect())
    }

    /// Ends a token; `false` when there is none of this id (and owner) that is not ended.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn token_revoke(&self, id: &str, owner: Option<&str>, actor: &str) -> Result<bool> {
        let (id, owner, actor, scope) = (id.to_owned(), owner.map(str::to_owned), actor.to_owned(), self.scope.clone());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let done = tx.execute(
                "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL
                 AND (CAST($3 AS TEXT) IS NULL OR owner = $3)",
                params![now, &id, owner.as_deref()],
            )?;
            if done > 0 {
                let subject = format!("token {id}");
                let event = NewEvent {
                    subject: Some(&subject),
                    actor: Some(&actor),
                    ..NewEvent::of("token.revoked", serde_json::Value::Null)
                };
                scope.event(tx, event)?;
            }
            Ok(done > 0)
        })
        .await
    }
}
