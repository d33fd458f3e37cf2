//! What is made from the definition of the command line: completion scripts
//! and the manual page. The results are kept under `packaging/`, and
//! `tests/generated.rs` fails when they are not what is made here.

use std::io;

use clap_mangen::Man;

use super::{Cli, file_page};

/// What a manual page has and a command line does not.
const TAIL: &str = r#".SH "EXIT STATUS"
0 done, 1 failed, 2 wrong usage. A refused command changes nothing.
Errors go to standard error as one line \fBsteerctl: \fIobject\fB: \fIreason\fR and,
where there is a likely cure, one line \fBhint: \fR...
.SH ENVIRONMENT
.TP
\fBSTEER_PIN_DIR\fR
Stands for \fB\-\-pin\-dir\fR.
.TP
\fBRUST_LOG\fR
What is logged to standard error, in the syntax of env_logger; it takes the place of \fB\-v\fR.
.TP
\fBNO_COLOR\fR
No colours, whatever its value.
.SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
End \fBrun\fR, which detaches; with \fB\-\-keep\fR packets are steered on.
.TP
\fBSIGHUP\fR
\fBrun\fR reads its configuration file again.
.SH FILES
.TP
\fI/etc/steer/steer.toml\fR
The configuration.
.TP
\fI/sys/fs/bpf/steer\fR
The pinned maps and links: all of steer's state. See docs/maps.md for each of them.
.SH EXAMPLES
Steer what enters lan0 over all WireGuard devices, for the prefixes that they have in common:
.PP
.nf
.RS
steerctl run \-\-iface lan0
.RE
.fi
.PP
The same, with everything named, and both directions placed alike by a far gateway that has the same seed:
.PP
.nf
.RS
steerctl run \-\-iface lan0 \-\-tunnel wg0=3 \-\-tunnel wg1=1 \-\-prefix 10.2.0.0/16 \-\-seed 42
.RE
.fi
.PP
Give one tunnel three times the new flows of the other, and look:
.PP
.nf
.RS
steerctl weights wg0=3 wg1=1
steerctl status
.RE
.fi
.SH "SEE ALSO"
.BR wg (8),
.BR wg\-quick (8),
.BR ip\-netns (8),
.BR tc\-bpf (8),
.BR bpftool (8)
"#;

/// The completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "steerctl", &mut script);
    script
}

/// The manual page: all verbs in one page, as steerctl(8).
pub fn manual() -> io::Result<Vec<u8>> {
    let mut command = Cli::definition();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(b".SH COMMANDS\n");
    for verb in command.get_subcommands() {
        page.extend(sections_of(verb, "steerctl")?);
    }
    page.extend_from_slice(file_page::section()?.as_bytes());
    page.extend_from_slice(TAIL.as_bytes());
    Ok(page)
}

/// The sections of one verb, and of the verbs below it.
fn sections_of(verb: &clap::Command, above: &str) -> io::Result<Vec<u8>> {
    let name = format!("{above} {}", verb.get_name());
    let mut page = format!(".SS \"{name}\"\n").into_bytes();
    // What every verb takes is said once, above.
    let own = verb.clone().mut_args(|arg| {
        let is_common = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(is_common)
    });
    let man = Man::new(own);
    let mut section = Vec::new();
    man.render_synopsis_section(&mut section)?;
    man.render_description_section(&mut section)?;
    man.render_options_section(&mut section)?;
    page.extend(part_of_section(&section));
    for below in verb.get_subcommands() {
        page.extend(sections_of(below, &name)?);
    }
    Ok(page)
}

/// A section made of what was a page: headings become paragraphs, and what
/// roff was told at the top of the page is not told again.
fn part_of_section(text: &[u8]) -> Vec<u8> {
    let mut part = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".SH") {
            part.extend_from_slice(b".PP\n");
        } else if !line.starts_with(b".ie ") && !line.starts_with(b".el ") {
            part.extend_from_slice(line);
        }
    }
    part
}
