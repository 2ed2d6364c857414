//! Seals over events: bodies are made and checked elsewhere, here they are kept in order.

use crate::db::params;
use crate::{Durability, Result, Store};
use windlass_model::Micros;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRow {
    /// 1 for the first; no number is left out.
    pub number: i64,
    /// Ids of the first and the last event under it.
    pub first: i64,
    pub last: i64,
    pub body: String,
    pub at: Micros,
}

impl Store {
    /// Appends a seal; `false` when its number is taken, because another server was first.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn seal_add(&self, seal: &SealRow) -> Result<bool> {
        let seal = seal.clone();
        self.write(Durability::Durable, move |tx| {
            let done = tx.execute(
                "INSERT INTO seals (number, first, last, body, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (number) DO NOTHING",
                params![seal.number, seal.first, seal.last, &seal.body, seal.at],
            )?;
            Ok(done > 0)
        })
        .await
    }

    /// The newest seal.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn seal_last(&self) -> Result<Option<SealRow>> {
        let found: Option<(i64, i64, i64, String, i64)> = self
            .read(|tx| {
                tx.row("SELECT number, first, last, body, at FROM seals ORDER BY number DESC LIMIT 1", params![])
            })
            .await?;
        Ok(found.map(|(number, first, last, body, at)| SealRow { number, first, last, body, at }))
    }

    /// Seals after a number, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn seal_list(&self, after: i64, limit: u32) -> Result<Vec<SealRow>> {
        let found: Vec<(i64, i64, i64, String, i64)> = self
            .read(move |tx| {
                tx.rows(
                    "SELECT number, first, last, body, at FROM seals WHERE number > $1 ORDER BY number LIMIT $2",
                    params![after, limit],
                )
            })
            .await?;
        let row = |(number, first, last, body, at)| SealRow { number, first, last, body, at };
        Ok(found.into_iter().map(row).collect())
    }
}
