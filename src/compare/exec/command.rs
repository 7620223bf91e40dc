//! What is to be run.

use std::path::Path;

/// A program and its arguments, as the command line names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exec {
    program: String,
    arguments: Vec<String>,
    name: String,
}

impl Exec {
    /// Reads `./mine.py`, or a command with arguments: words as a shell divides them, quotes included, and
    /// nothing else of what a shell does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).ok_or("a quote is open at its end")?;
        let mut words = words.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or("names no program, as `exec:./mine.py` does")?;
        let arguments: Vec<String> = words.collect();
        let last = |word: &String| {
            let name = Path::new(word).file_name();
            name.map_or_else(|| word.clone(), |name| name.to_string_lossy().into_owned())
        };
        let mut name = last(&program);
        for argument in &arguments {
            name += &format!(" {}", last(argument));
        }
        Ok(Self {
            program,
            arguments,
            name,
        })
    }

    /// It in short, without the folders: `mine.py`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// The program, as it is looked for.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// What it is started with.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The files that the command names, the program itself and its script, with the SHA-256 of each, in
    /// its first 12 digits: by these it is seen whether a repetition runs the same.
    pub fn files(&self) -> Vec<(String, String)> {
        let words = [&self.program].into_iter().chain(&self.arguments);
        let digest = |word: &String| {
            // A device or a pipe may never end.
            let is_file = Path::new(word).metadata().is_ok_and(|meta| meta.is_file());
            let bytes = is_file.then(|| std::fs::read(word).ok()).flatten()?;
            let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
            let digits = digest.as_ref().iter().take(6);
            let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
            Some((word.clone(), digits))
        };
        words.filter_map(digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let exec = Exec::parse("python3 '/home/a b/mine.py' --gain 2").expect("right");
        assert_eq!(exec.program(), "python3");
        assert_eq!(exec.arguments(), ["/home/a b/mine.py", "--gain", "2"]);
        assert_eq!(exec.name(), "python3 mine.py --gain 2");
        assert_eq!(
            Exec::parse("../x/mine.py").expect("right").name(),
            "mine.py"
        );
        for wrong in ["", "  ", "''", "./a 'b"] {
            Exec::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_file_is_known_by_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mine.py");
        std::fs::write(&file, "abc").expect("written");
        let file = file.display().to_string();
        let exec = Exec::parse(&format!("no-such-program {file} /dev/zero")).expect("right");
        // FIPS 180-2, appendix B.1.
        assert_eq!(exec.files(), [(file, "ba7816bf8f01".to_owned())]);
    }
}
