//! What is good for a time, by kind and name.

use crate::db::params;
use crate::{Durability, Result, Store};
use windlass_model::Micros;

impl Store {
    /// Puts a ticket in until `expires_at` (µs); `false` when one with its name is there and good, which stays.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn ticket_put(&self, kind: &str, name: &str, value: &str, expires_at: Micros) -> Result<bool> {
        let (kind, name, value) = (kind.to_owned(), name.to_owned(), value.to_owned());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let done = tx.execute(
                "INSERT INTO tickets (kind, name, value, expires_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
                 WHERE tickets.expires_at <= $5",
                params![&kind, &name, &value, expires_at, now],
            )?;
            Ok(done > 0)
        })
        .await
    }

    /// The value of a ticket that is good.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn ticket_get(&self, kind: &str, name: &str) -> Result<Option<String>> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.read(move |tx| {
            let now = tx.now()?;
            tx.row(
                "SELECT value FROM tickets WHERE kind = $1 AND name = $2 AND expires_at > $3",
                params![&kind, &name, now],
            )
        })
        .await
    }

    /// Changes the value and the end of a ticket that is good; `false` when there is none.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn ticket_renew(&self, kind: &str, name: &str, value: &str, expires_at: Micros) -> Result<bool> {
        let (kind, name, value) = (kind.to_owned(), name.to_owned(), value.to_owned());
        self.write(Durability::Lazy, move |tx| {
            let now = tx.now()?;
            let done = tx.execute(
                "UPDATE tickets SET value = $3, expires_at = $4 WHERE kind = $1 AND name = $2 AND expires_at > $5",
                params![&kind, &name, &value, expires_at, now],
            )?;
            Ok(done > 0)
        })
        .await
    }

    /// Changes a ticket that is as it was read: its value and its end, or with `None` takes it out; `false` when somebody else
    /// changed it first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn ticket_swap(&self, kind: &str, name: &str, old: &str, new: Option<(&str, Micros)>) -> Result<bool> {
        let (kind, name, old) = (kind.to_owned(), name.to_owned(), old.to_owned());
        let new = new.map(|(value, expires_at)| (value.to_owned(), expires_at));
        self.write(Durability::Durable, move |tx| {
            let done = match &new {
                Some((value, expires_at)) => tx.execute(
                    "UPDATE tickets SET value = $4, expires_at = $5 WHERE kind = $1 AND name = $2 AND value = $3",
                    params![&kind, &name, &old, value, *expires_at],
                )?,
                None => tx.execute(
                    "DELETE FROM tickets WHERE kind = $1 AND name = $2 AND value = $3",
                    params![&kind, &name, &old],
                )?,
            };
            Ok(done > 0)
        })
        .await
    }

    /// Takes a ticket out: of several that ask for it, one gets it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn ticket_take(&self, kind: &str, name: &str) -> Result<Option<String>> {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.write(Durability::Durable, move |tx| {
            let now = tx.now()?;
            let taken: Option<(String, i64)> = tx.row(
                "DELETE FROM tickets WHERE kind = $1 AND name = $2 RETURNING value, expires_at",
                params![&kind, &name],
            )?;
            Ok(taken.filter(|(_, expires_at)| *expires_at > now).map(|(value, _)| value))
        })
        .await
    }

    /// Removes what is not good any more; how many.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn ticket_sweep(&self) -> Result<u64> {
        self.write(Durability::Lazy, |tx| {
            let now = tx.now()?;
            tx.execute("DELETE FROM tickets WHERE expires_at <= $1", params![now])
        })
        .await
    }
}
