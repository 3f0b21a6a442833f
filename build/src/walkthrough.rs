//! The actions that a page of documentation asks for: commands with their answers, files to write, and edits. A test
//! executes them.
//!
//! A command is a line of a code block that begins with `$ `, and goes on behind a backslash; what follows is its answer, in
//! which `…` stands for any text, and alone on a line for any lines. A line `$ X` behind a command that holds `X` is part of
//! the answer. A fenced block with a path behind its language is a file to write, or to add to if it is there. In the language
//! `diff` it is an edit: hunks between lines of `@@`, each of lines that stay (` `), go (`-`) and come (`+`). Where all stay, it
//! quotes.

mod edit;
mod pattern;

pub use edit::{apply, quotes};
pub use pattern::matches;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write, or add to, a file.
    File {
        /// Relative to where the page's commands run.
        path: String,
        /// All of it.
        text: String,
    },
    /// Change a file.
    Edit {
        /// Relative to where the page's commands run.
        path: String,
        /// See [`apply`].
        hunks: Vec<String>,
    },
    /// Run a command.
    Command {
        /// For the shell.
        command: String,
        /// A pattern for [`matches`].
        answer: String,
    },
}

/// The actions of a page, in order.
pub fn steps(page: &str) -> Vec<Action> {
    blocks(page).into_iter().flat_map(Block::steps).collect()
}

/// A code block: the text after the fence, and its lines.
struct Block {
    info: String,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            blocks.push(Block { info: info.to_owned(), lines: inside });
        } else if let Some(first) = line.strip_prefix("    ") {
            let mut inside = vec![first.to_owned()];
            while let Some(line) = lines.next_if(|line| line.is_empty() || line.starts_with("    ")) {
                inside.push(line.strip_prefix("    ").unwrap_or_default().to_owned());
            }
            blocks.push(Block { info: String::new(), lines: inside });
        }
    }
    blocks
}

impl Block {
    fn steps(self) -> Vec<Action> {
        match self.info.split_once(' ') {
            Some(("diff", path)) => {
                let hunks = self.lines.split(|line| line.starts_with("@@")).map(|hunk| hunk.join("\n") + "\n");
                let hunks = hunks.filter(|hunk| !hunk.trim().is_empty()).collect();
                vec![Action::Edit { path: path.to_owned(), hunks }]
            }
            Some((_, path)) => vec![Action::File { path: path.to_owned(), text: self.lines.join("\n") + "\n" }],
            None => commands(&self.lines),
        }
    }
}

fn commands(lines: &[String]) -> Vec<Action> {
    let mut steps: Vec<(String, Vec<&str>)> = Vec::new();
    let mut open = false;
    for line in lines {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (_, Some((command, _))) if open => {
                *command += &format!("\n{line}");
                open = line.ends_with('\\');
            }
            (Some(text), Some((command, answer))) if command.contains(text) => answer.push(line),
            (Some(text), _) => {
                steps.push((text.to_owned(), Vec::new()));
                open = text.ends_with('\\');
            }
            (None, Some((_, answer))) => answer.push(line),
            (None, None) => {}
        }
    }
    let step = |(command, answer): (String, Vec<&str>)| Action::Command {
        command,
        answer: answer.join("\n").trim_end().to_owned(),
    };
    steps.into_iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_answers_files_and_edits_are_found() {
        let page = "# Title\n\n    $ one 'a b' \\\n        --two\n    first\n    $ a b\n\n    last\n\nText, `$ not this`.\n\n\
                    ```toml x.toml\na = 1\n\nb = 2\n```\n\n```diff y.rs\n@@ fn f\n here\n-old\n+new\n@@\n+more\n```\n\n```rust\nlet x;\n```\n";
        let command =
            Action::Command { command: "one 'a b' \\\n    --two".into(), answer: "first\n$ a b\n\nlast".into() };
        let file = Action::File { path: "x.toml".into(), text: "a = 1\n\nb = 2\n".into() };
        let edit = Action::Edit { path: "y.rs".into(), hunks: vec![" here\n-old\n+new\n".into(), "+more\n".into()] };
        assert_eq!(steps(page), [command, file, edit]);
    }

    #[test]
    fn a_block_may_have_several_commands() {
        let commands = [("one", "1"), ("two", ""), ("three", "3")];
        let expected =
            commands.map(|(command, answer)| Action::Command { command: command.into(), answer: answer.into() });
        assert_eq!(steps("    $ one\n    1\n    $ two\n    $ three\n    3\n"), expected);
    }
}
