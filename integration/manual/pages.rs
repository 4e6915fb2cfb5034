//! The pages of section 8, one for each command, and the completions, from the commands as they are parsed.
//!
//! Promises: the same text on every machine. Lines are short, and no construct is used that `mandoc -T lint` would
//! remark upon. What no definition tells (files, signals) stands in `encr-milter.man`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use encr_milter::cli;

/// When the pages last changed in what they say.
const DATE: &str = "2026-11-22";
const MANUAL: &str = "Mail Administration";
const SECTIONS: &str = include_str!("encr-milter.man");
const LINE: usize = 80;

/// Every file, by its path in the source tree.
pub(crate) fn all() -> io::Result<Vec<(PathBuf, String)>> {
    let mut command = cli::definitions().disable_help_subcommand(true);
    command.build();
    let mut files = Vec::new();
    pages(&command, &command, &mut files)?;
    for (shell, file) in
        [(Shell::Bash, "encr-milter.bash"), (Shell::Zsh, "_encr-milter"), (Shell::Fish, "encr-milter.fish")]
    {
        files.push((Path::new("docs/completions").join(file), completion(shell, command.get_name())?));
    }
    Ok(files)
}

fn completion(shell: Shell, name: &str) -> io::Result<String> {
    let mut script = Vec::new();
    let mut generate =
        |name: &str| clap_complete::generate(shell, &mut cli::definitions(), name, &mut script);
    if shell != Shell::Bash {
        generate(name);
        return text(script);
    }
    // For bash, clap_complete 4.6 writes a name with a hyphen in two ways, and the script would then find no command. It
    // gets a name without one, and what the script is for is named behind `complete` alone.
    let plain = name.replace('-', "_");
    generate(&plain);
    Ok(text(script)?.replace(&format!(" {plain}\n"), &format!(" {name}\n")))
}

fn pages(top: &Command, command: &Command, files: &mut Vec<(PathBuf, String)>) -> io::Result<()> {
    files.push((Path::new("docs/man").join(format!("{}.8", name(command))), page(top, command)?));
    command.get_subcommands().try_for_each(|sub| pages(top, sub, files))
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(top: &Command, command: &Command) -> io::Result<String> {
    let name = name(command);
    let is_top = name == top.get_name();
    let man = Man::new(command.clone().subcommand_value_name("COMMAND"))
        .title(name.to_uppercase())
        .section("8")
        .date(DATE)
        .source(format!("{} {}", top.get_name(), top.get_version().unwrap_or_default()))
        .manual(MANUAL);
    let mut made = Vec::new();
    man.render_title(&mut made)?;
    man.render_name_section(&mut made)?;
    man.render_synopsis_section(&mut made)?;
    // Of the whole program, its name says already what clap knows.
    if !is_top {
        man.render_description_section(&mut made)?;
    }
    let mut page = tidy(&text(made)?);
    if is_top {
        page += ".SH DESCRIPTION\n";
        page += section("DESCRIPTION");
    }
    if command.has_subcommands() {
        page += ".SH COMMANDS\n";
        list(command, &mut page);
    }
    let mut made = Vec::new();
    man.render_options_section(&mut made)?;
    page += &tidy(&text(made)?);
    if is_top {
        page += ".SH FILES\n";
        page += section("FILES");
        page += ".SH EXIT STATUS\nThose of sysexits(3):\n";
        for (code, says) in cli::exit::ALL {
            page += &[".TP 4\n.B ", &code.to_string(), "\n", says, "\n"].concat();
        }
        for title in ["SIGNALS", "ENVIRONMENT"] {
            page += &[".SH ", title, "\n", section(title)].concat();
        }
        page += &[".SH EXAMPLES\n", &examples(command), ".SH SEE ALSO\n", section("SEE ALSO")].concat();
    } else {
        page += ".SH EXIT STATUS\nAs of\n.BR encr\\-milter (8).\n.SH SEE ALSO\n";
        page += ".BR encr\\-milter (8),\n.BR encr\\-milter\\-policy (5),\n.BR encr\\-milter.toml (5)\n";
    }
    Ok(page)
}

/// Every command below this one, with what it is for.
fn list(command: &Command, page: &mut String) {
    for sub in command.get_subcommands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let text = format!(".TP\n.BR {} (8)\n{}\n", escaped(name(sub)), escaped(&about));
        *page += &tidy(&text);
        list(sub, page);
    }
}

/// The examples at the end of `--help`, each line as it stands.
fn examples(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| !line.starts_with(' ')).take_while(|line| !line.is_empty());
    let lines: String = lines.map(|line| escaped(line.trim_start_matches("  ")) + "\n").collect();
    format!(".nf\n{lines}.fi\n")
}

/// One section of `encr-milter.man`.
fn section(title: &str) -> &'static str {
    let begin = format!(".SH {title}\n");
    let Some(start) = SECTIONS.find(&begin) else { return "" };
    let body = SECTIONS.get(start + begin.len()..).unwrap_or_default();
    body.split_inclusive(".SH ").next().map(|body| body.trim_end_matches(".SH ")).unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// What clap_mangen makes, in short lines, without blank ones and without breaks behind a break.
fn tidy(made: &str) -> String {
    let mut tidied = String::new();
    let mut last = "";
    let made = made.replace("\\*(Aq", "\\(aq");
    for line in made.lines().map(str::trim_end) {
        if line.is_empty() || line.starts_with(".ie") || line.starts_with(".el") {
            // An empty line within a help text parts its paragraphs.
            if line.is_empty() && !last.starts_with(['.', '\'']) {
                tidied += ".sp\n";
                last = ".sp";
            }
            continue;
        }
        if line == ".br" && last.starts_with('.') {
            continue;
        }
        last = line;
        if line.starts_with('.') && !line.starts_with("\\&") {
            tidied += line;
            tidied.push('\n');
            continue;
        }
        let mut length = 0;
        for (index, word) in line.split(' ').filter(|word| !word.is_empty()).enumerate() {
            if index > 0 && length + 1 + word.len() <= LINE {
                tidied.push(' ');
                length += 1;
            } else if index > 0 {
                tidied.push('\n');
                length = 0;
                if word.starts_with(['.', '\'']) {
                    tidied += "\\&";
                }
            }
            tidied += word;
            length += word.len();
        }
        tidied.push('\n');
    }
    tidied
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(io::Error::other)
}
