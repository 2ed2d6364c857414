//! Reading a repository: Terraform/OpenTofu modules and Windlass files, with source spans, into typed definitions, stacks,
//! edges and diagnostics. Knows neither network nor database.

pub mod definitions;
pub mod discovery;
pub mod eval;
pub mod expression;
pub mod fmt;
pub mod lint;
pub mod preview;
pub mod terraform;
pub mod tree;

/// The candidate most like `name`, when one is near enough to be meant.
pub fn suggest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A pattern over paths: `*` within a segment, `**` over segments.
///
/// # Errors
/// The pattern's own mistake.
pub fn glob(pattern: &str) -> Result<globset::GlobMatcher, globset::Error> {
    Ok(globset::GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}
