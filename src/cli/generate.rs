//! What packages have beside the programs: manual pages and completions for shells, from what clap
//! knows of the options.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{ArgGroup, Command, CommandFactory};
use clap_complete::{Generator, Shell};
use clap_mangen::Man;

use super::args::Args;
use super::mount_args::MountArgs;
use super::mount_helper::HelperArgs;
use crate::partial::{Existing, Partial, cannot_write, directory_of};

/// Writes everything below a directory, as it lies below /usr/share. Each file appears whole.
pub fn generate(directory: &Path) -> Result<()> {
    for (path, content) in files()? {
        let path = directory.join(path);
        let parent = directory_of(&path);
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        let partial = Partial::file_in(parent)?;
        std::io::Write::write_all(&mut partial.file(), &content).map_err(|e| cannot_write(&path, e))?;
        partial.publish(&path, Existing::Replace)?;
    }
    Ok(())
}

/// Path and content of every file. Neither has a date, nor anything else of this machine.
fn files() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for program in [Args::command(), MountArgs::command()] {
        completions(&program, &mut files);
        pages(built(program), "1", &mut files)?;
    }
    pages(built(HelperArgs::command()), "8", &mut files)?;
    Ok(files)
}

fn completions(program: &Command, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    let name = program.get_name();
    for (shell, directory) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        // bash-completion looks for the name of the program.
        let file = if shell == Shell::Bash { name.to_owned() } else { shell.file_name(name) };
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut visible(program), name, &mut content);
        files.push((Path::new(directory).join(file), content));
    }
}

/// The same without hidden options, which clap_complete would offer.
fn visible(command: &Command) -> Command {
    let shown: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    let groups = command.get_groups().map(|group| {
        let members = group.get_args().filter(|id| shown.iter().any(|arg| arg.get_id() == *id));
        ArgGroup::new(group.get_id().clone()).args(members.cloned()).multiple(true)
    });
    let mut out = Command::new(command.get_name().to_owned())
        .args(shown.iter().copied().cloned())
        .groups(groups)
        .subcommands(command.get_subcommands().map(visible));
    if let Some(about) = command.get_about() {
        out = out.about(about.clone());
    }
    match command.get_version() {
        Some(version) => out.version(version.to_owned()).propagate_version(true),
        None => out,
    }
}

/// Complete with what clap adds, and the full names of subcommands.
fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// A page for the command, and one for each subcommand: upg-convert(1).
fn pages(command: Command, section: &str, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    for sub in command.get_subcommands() {
        pages(sub.clone(), section, files)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command)
        .section(section)
        .source(concat!("upg ", env!("CARGO_PKG_VERSION")))
        .manual(if section == "8" { "System Administration" } else { "User Commands" });
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if has_subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend(sections(&after).into_bytes());
    page.extend(SEE_ALSO.as_bytes());
    let name = man.get_filename();
    files.push((PathBuf::from(format!("man/man{section}")).join(name), page));
    Ok(())
}

const SEE_ALSO: &str = ".SH SEE ALSO\n\\fBupg\\fR(1), \\fBupg\\-mount\\fR(1), \\fBmount.upg\\fR(8)\n";

/// What stands behind the options in --help: paragraphs, of which some have a heading. clap_mangen
/// would run the lines of examples together.
fn sections(text: &str) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        if let Some(heading) = first.strip_suffix(':').filter(|_| rest.starts_with("  ")) {
            out += &format!(".SH {}\n.nf\n", escape(&heading.to_uppercase()));
            rest.lines().for_each(|line| out += &format!("{}\n", escape(line.strip_prefix("  ").unwrap_or(line))));
            out += ".fi\n";
        } else if let Some(codes) = paragraph.strip_prefix("Exit codes: ") {
            out += &format!(".SH EXIT STATUS\n{}\n", escape(codes));
        } else {
            out += &format!(".SH NOTES\n{}\n", escape(paragraph));
        }
    }
    out
}

/// Text as roff takes it.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let lines = escaped.lines().map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}
