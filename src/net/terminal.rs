//! A terminal that hands over each key as it is pressed, and shows none by itself.

use std::{
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
};

use nix::sys::{
    signal::{Signal, raise},
    termios::{
        InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
    },
};

/// The terminal of standard input and output while a program has all of it; restored when this is dropped.
pub struct RawTerminal {
    before: Termios,
    /// What is written to have the screen, and to give it back.
    enter: &'static [u8],
    leave: &'static [u8],
}

impl RawTerminal {
    /// Takes the terminal: writes `enter`, and `leave` when it is given back. Keys that make signals
    /// elsewhere (Ctrl-C, Ctrl-Z) come as they are.
    ///
    /// # Errors
    /// If standard input is no terminal.
    pub fn take(enter: &'static [u8], leave: &'static [u8]) -> io::Result<Self> {
        let terminal = Self {
            before: tcgetattr(io::stdin().as_fd())?,
            enter,
            leave,
        };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
        raw.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &raw)?;
        write(self.enter)
    }

    fn leave(&self) -> io::Result<()> {
        // The terminal's mode first: it counts where nothing can be written any more.
        let restored = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
        write(self.leave)?;
        Ok(restored?)
    }

    /// Gives the terminal back and stops the process, as Ctrl-Z does; takes it again when that goes on.
    ///
    /// # Errors
    /// Those of a terminal that is gone.
    pub fn suspend(&self) -> io::Result<()> {
        self.leave()?;
        raise(Signal::SIGTSTP)?;
        self.enter()
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // One that is gone need not be restored.
        let _ = self.leave();
    }
}

/// Whether a person sits at standard input and output.
pub fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
