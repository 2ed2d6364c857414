//! The review, in the format that is asked for.

use crate::arguments::{ForgeName, ReviewFormat, ReviewView};
use crate::terminal::Terminal;
use crate::{Context, print};
use std::path::PathBuf;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::settings::disk;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::effect::Effect;
use windlass_model::review::document::Document;
use windlass_render::markdown::{self, Forge};
use windlass_render::template::{Rendered, Template};
use windlass_render::{html, template, terminal};

/// Columns where nothing tells how many there are.
const WIDTH: usize = 100;

/// How a review is shown, and where.
pub struct View {
    format: ReviewFormat,
    forge: Forge,
    template: Option<Template>,
    output: Option<PathBuf>,
    /// Nothing was asked for.
    plain: bool,
}

impl View {
    /// What the flags say.
    ///
    /// # Errors
    /// The template cannot be read, or the format takes none.
    pub fn of(cx: &Context, flags: &ReviewView) -> AppResult<Self> {
        let template = flags.template.as_ref().map(|path| -> AppResult<Template> {
            let full = cx.directory.join(path);
            let source = std::fs::read_to_string(&full).map_err(|error| {
                let summary = format!("cannot read the template {}: {error}", path.display());
                AppError::new(ErrorKind::Usage, Diagnostic::error("WL902", summary))
            })?;
            Ok(Template { name: path.display().to_string(), source })
        });
        let template = template.transpose()?;
        let is_html = template.as_ref().is_some_and(|t| t.name.contains(".html"));
        let format = match (flags.format, &template) {
            (Some(format @ (ReviewFormat::Markdown | ReviewFormat::Html)), _) | (Some(format), None) => format,
            (Some(_), Some(_)) => {
                let diagnostic = Diagnostic::error("WL904", "only Markdown and HTML are made with templates");
                let help = "leave `--template` out, or write `--format markdown` or `--format html`";
                return Err(AppError::new(ErrorKind::Usage, diagnostic.help(help)));
            }
            (None, Some(_)) if is_html => ReviewFormat::Html,
            (None, Some(_)) => ReviewFormat::Markdown,
            (None, None) => ReviewFormat::Terminal,
        };
        let forge = match flags.forge {
            ForgeName::Github => Forge::GitHub,
            ForgeName::Gitlab => Forge::GitLab,
            ForgeName::Gitea => Forge::Gitea,
            ForgeName::Bitbucket => Forge::Bitbucket,
        };
        let plain = flags.format.is_none() && template.is_none() && flags.output.is_none();
        let output = flags.output.as_ref().map(|path| cx.directory.join(path));
        Ok(Self { format, forge, template, output, plain })
    }

    /// On the terminal.
    pub fn plain() -> Self {
        Self { format: ReviewFormat::Terminal, forge: Forge::GitHub, template: None, output: None, plain: true }
    }

    /// Nothing was asked for: `--json` may print what it always printed.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// Shows it, or writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn show(&self, cx: &Context, document: &Document) -> AppResult<()> {
        let built_in = |text: String| Rendered { text, cut: markdown::Cut::default(), problem: None };
        let rendered = match (self.format, &self.template) {
            (ReviewFormat::Terminal, _) => {
                let terminal = if self.output.is_some() { Terminal::plain() } else { cx.out };
                built_in(terminal::render(document, options(terminal)))
            }
            (ReviewFormat::Markdown, template) => {
                let options = markdown::Options { key: document.project.clone(), ..self.forge.options() };
                match template {
                    Some(template) => template::markdown(template, document, &options),
                    None => built_in(markdown::render(document, &options).text),
                }
            }
            (ReviewFormat::Html, Some(template)) => template::html(template, document),
            (ReviewFormat::Html, None) => built_in(html::page(document, html::Style::Inline, None)),
            (ReviewFormat::Json, _) => built_in(windlass_render::json(document)),
            (ReviewFormat::Summary, _) => built_in(windlass_render::summary(document)),
        };
        if let Some(problem) = &rendered.problem {
            let diagnostic = Diagnostic::warning("WL690", problem.to_string())
                .help("the built-in text was given instead; docs/review.md says what a template can use");
            eprint!("{}", super::diagnostic::render(cx.err, &diagnostic));
        }
        match &self.output {
            None => print(&rendered.text),
            Some(path) => std::fs::write(path, &rendered.text).map_err(|error| disk(path, &error))?,
        }
        Ok(())
    }
}

fn options(terminal: Terminal) -> terminal::Options {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let measured = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let width = told.or_else(|| measured().filter(|_| terminal.interactive)).unwrap_or(WIDTH);
    terminal::Options { color: terminal.color, width }
}

/// What a single effect would do, indented by two.
pub fn render_effect(terminal: Terminal, effect: &Effect) -> String {
    terminal::render_effect(effect, options(terminal))
}
