//! What the person looks at: which rows, in which order, and what the keys change about it.

use super::{
    board::Board,
    key::Key,
    meter::{Identity, Row},
    polled::Question,
    sort::Sort,
};

/// What has to be done after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// The screen shows something else.
    Show,
    /// The service is asked something else, and at once.
    Ask,
    /// Everything is drawn anew.
    Redraw,
    Suspend,
    Quit,
}

/// How far a list is walked down: the service is asked for no more sessions than these.
pub(super) const MOST: usize = 1000;
/// So many characters a filter has.
const FILTER: usize = 60;

/// So many lines stand above the rows: four of the service, and the columns' names.
pub(super) const HEAD: usize = 5;

/// How many rows a screen shows: what is left of it, less the line at its bottom.
pub(super) fn rows_of(height: usize) -> usize {
    height.saturating_sub(HEAD + 1)
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// A filter that is being typed.
    pub(super) typing: Option<String>,
    pub(super) selected: Option<Identity>,
    /// So many rows are above the screen.
    pub(super) offset: usize,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Whose detail is shown, as it was when it was opened.
    pub(super) detail: Option<Row>,
    /// So many lines of it are above the screen.
    pub(super) scrolled: usize,
}

impl View {
    pub(super) fn new(sort: Sort, filter: String) -> Self {
        Self {
            width: 80,
            height: 24,
            sort,
            filter,
            typing: None,
            selected: None,
            offset: 0,
            paused: false,
            help: false,
            detail: None,
            scrolled: 0,
        }
    }

    /// What the service is asked for to show it: one row more than fits, to walk on to.
    pub(super) fn question(&self) -> Question {
        let detail = self.detail.as_ref();
        Question {
            sort: self.sort,
            filter: self.typing.as_ref().unwrap_or(&self.filter).clone(),
            limit: (self.offset + rows_of(self.height) + 1).min(MOST),
            detail: detail.and_then(|row| row.connection.clone()),
        }
    }

    /// The rows have changed: who is selected stays so, and on the screen.
    pub(super) fn settle(&mut self, board: &Board) {
        let at = self.at(board).unwrap_or(0);
        self.select(at, board);
    }

    fn at(&self, board: &Board) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        board.rows.iter().position(|row| row.identity == *selected)
    }

    fn select(&mut self, at: usize, board: &Board) {
        let last = board.rows.len().saturating_sub(1);
        let at = at.min(last);
        self.selected = board.rows.get(at).map(|row| row.identity.clone());
        let shown = rows_of(self.height).max(1);
        self.offset = self
            .offset
            .min(at)
            .max((at + 1).saturating_sub(shown))
            .min(last);
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key, board: &Board) -> Act {
        match key {
            Key::Interrupt => return Act::Quit,
            Key::Suspend => return Act::Suspend,
            Key::Redraw => return Act::Redraw,
            _ => {}
        }
        if self.typing.is_some() {
            return self.type_filter(key);
        }
        if self.help {
            self.help = false;
            return if key == Key::Char('q') {
                Act::Quit
            } else {
                Act::Show
            };
        }
        if self.detail.is_some() {
            return self.press_in_detail(key);
        }
        let at = self.at(board).unwrap_or(0);
        let page = rows_of(self.height).max(1);
        let to = match key {
            Key::Up | Key::Char('k') => at.saturating_sub(1),
            Key::Down | Key::Char('j') => at + 1,
            Key::PageUp => at.saturating_sub(page),
            Key::PageDown => at + page,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => usize::MAX,
            _ => return self.command(key, at, board),
        };
        let before = self.offset;
        self.select(to, board);
        // Further down are rows that the service was not asked for yet.
        if self.offset == before {
            Act::Show
        } else {
            Act::Ask
        }
    }

    fn command(&mut self, key: Key, at: usize, board: &Board) -> Act {
        match key {
            Key::Char('q') => Act::Quit,
            Key::Char('s') => {
                self.sort = self.sort.next();
                Act::Ask
            }
            Key::Char('/') => {
                self.typing = Some(self.filter.clone());
                Act::Show
            }
            Key::Escape if !self.filter.is_empty() => {
                self.filter.clear();
                Act::Ask
            }
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                if self.paused { Act::Show } else { Act::Ask }
            }
            Key::Char('?' | 'h') => {
                self.help = true;
                Act::Show
            }
            Key::Enter => {
                self.detail = board.rows.get(at).cloned();
                self.scrolled = 0;
                Act::Ask
            }
            _ => Act::Show,
        }
    }

    fn press_in_detail(&mut self, key: Key) -> Act {
        let page = self.height.saturating_sub(HEAD + 2).max(1);
        let scrolled = self.scrolled;
        self.scrolled = match key {
            Key::Char('q') => return Act::Quit,
            Key::Enter | Key::Escape | Key::Backspace => {
                self.detail = None;
                return Act::Ask;
            }
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Act::Show } else { Act::Ask };
            }
            Key::Char('?' | 'h') => {
                self.help = true;
                return Act::Show;
            }
            Key::Up | Key::Char('k') => scrolled.saturating_sub(1),
            Key::Down | Key::Char('j') => scrolled + 1,
            Key::PageUp => scrolled.saturating_sub(page),
            Key::PageDown => scrolled + page,
            Key::Home | Key::Char('g') => 0,
            // The screen knows where the end is.
            Key::End | Key::Char('G') => usize::MAX / 2,
            _ => scrolled,
        };
        Act::Show
    }

    fn type_filter(&mut self, key: Key) -> Act {
        let Some(typed) = &mut self.typing else {
            return Act::Show;
        };
        match key {
            Key::Enter => {
                self.filter = std::mem::take(typed);
                self.typing = None;
            }
            Key::Escape => self.typing = None,
            Key::Backspace => {
                typed.pop();
            }
            Key::Char(c) if typed.chars().count() < FILTER => typed.push(c),
            _ => return Act::Show,
        }
        Act::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::board, *};

    fn press(view: &mut View, board: &Board, keys: &[Key]) -> Act {
        let acts = keys.iter().map(|key| view.press(*key, board));
        acts.last().unwrap_or(Act::Show)
    }

    fn selected(view: &View, board: &Board) -> String {
        let at = view.at(board).expect("one is selected");
        board.rows[at].name.clone()
    }

    #[test]
    fn the_selection_moves_and_stays_with_its_session() {
        let mut view = View::new(Sort::Name, String::new());
        let board = board(&["Ada", "Bob", "Tal"]);
        view.settle(&board);
        assert_eq!(selected(&view, &board), "Ada");
        assert_eq!(
            press(&mut view, &board, &[Key::Down, Key::Char('j')]),
            Act::Show
        );
        assert_eq!(selected(&view, &board), "Tal");
        press(&mut view, &board, &[Key::Down, Key::Up]);
        assert_eq!(selected(&view, &board), "Bob");
        press(&mut view, &board, &[Key::End]);
        assert_eq!(selected(&view, &board), "Tal");
        press(&mut view, &board, &[Key::Home]);
        assert_eq!(selected(&view, &board), "Ada");
        press(&mut view, &board, &[Key::Char('j')]);
        let more = super::super::tests::board(&["Aaa", "Ada", "Bob", "Tal"]);
        view.settle(&more);
        assert_eq!(selected(&view, &more), "Bob");
        // One that is over leaves the selection to the first.
        let fewer = super::super::tests::board(&["Ada"]);
        view.settle(&fewer);
        assert_eq!(selected(&view, &fewer), "Ada");
        let none = super::super::tests::board(&[]);
        view.settle(&none);
        assert_eq!(
            press(&mut view, &none, &[Key::Down, Key::Enter, Key::End]),
            Act::Show
        );
        assert_eq!(
            (view.selected.clone(), view.offset, view.detail.is_none()),
            (None, 0, true)
        );
    }

    #[test]
    fn a_long_list_is_walked_and_no_more_is_asked_for_than_is_shown() {
        let names: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let board = board(&names);
        let mut view = View::new(Sort::Name, String::new());
        view.height = 24;
        view.settle(&board);
        let shown = rows_of(24);
        assert_eq!(view.question().limit, shown + 1);
        for _ in 0..shown - 1 {
            assert_eq!(press(&mut view, &board, &[Key::Down]), Act::Show);
        }
        assert_eq!(press(&mut view, &board, &[Key::Down]), Act::Ask);
        assert_eq!((view.offset, view.question().limit), (1, shown + 2));
        press(&mut view, &board, &[Key::PageDown]);
        assert_eq!(view.offset, shown + 1);
        press(&mut view, &board, &[Key::End]);
        assert_eq!((view.offset, view.question().limit), (100 - shown, 101));
        // A window that shrinks keeps the selected row on it.
        view.height = HEAD + 4;
        view.settle(&board);
        assert_eq!(
            (selected(&view, &board), view.offset),
            ("099".to_owned(), 100 - rows_of(view.height))
        );
        view.height = 1;
        view.settle(&board);
        view.offset = 5000;
        assert_eq!(view.question().limit, MOST);
    }

    #[test]
    fn a_filter_is_asked_while_it_is_typed() {
        let mut view = View::new(Sort::Goodput, String::new());
        let board = board(&["Ada"]);
        press(&mut view, &board, &[Key::Char('/'), Key::Char('q')]);
        assert_eq!(
            press(&mut view, &board, &[Key::Char('x'), Key::Backspace]),
            Act::Ask
        );
        assert_eq!(view.question().filter, "q");
        assert_eq!(press(&mut view, &board, &[Key::Escape]), Act::Ask);
        assert_eq!(view.question().filter, "");
        press(
            &mut view,
            &board,
            &[Key::Char('/'), Key::Char('s'), Key::Enter],
        );
        assert_eq!((view.filter.as_str(), view.sort), ("s", Sort::Goodput));
        assert_eq!(press(&mut view, &board, &[Key::Escape]), Act::Ask);
        assert_eq!(view.question().filter, "");
        press(&mut view, &board, &[Key::Char('/')]);
        for _ in 0..200 {
            press(&mut view, &board, &[Key::Char('学')]);
        }
        assert!(view.question().filter.len() <= 256);
        assert_eq!(press(&mut view, &board, &[Key::Interrupt]), Act::Quit);
    }

    #[test]
    fn each_key_does_what_the_help_says() {
        let mut view = View::new(Sort::Goodput, String::new());
        let board = board(&["Ada"]);
        view.settle(&board);
        assert_eq!(press(&mut view, &board, &[Key::Char('s')]), Act::Ask);
        assert_eq!(view.question().sort, Sort::Name);
        assert_eq!(press(&mut view, &board, &[Key::Char('p')]), Act::Show);
        assert!(view.paused);
        assert_eq!(press(&mut view, &board, &[Key::Char('p')]), Act::Ask);
        assert_eq!(press(&mut view, &board, &[Key::Char('?')]), Act::Show);
        assert!(view.help);
        press(&mut view, &board, &[Key::Char('s')]);
        assert!(!view.help && view.sort == Sort::Name);
        assert_eq!(press(&mut view, &board, &[Key::Enter]), Act::Ask);
        assert_eq!(view.question().detail.as_deref(), Some("Ada"));
        press(&mut view, &board, &[Key::Down, Key::Down, Key::Up]);
        assert_eq!(view.scrolled, 1);
        assert_eq!(press(&mut view, &board, &[Key::Escape]), Act::Ask);
        assert_eq!(view.question().detail, None);
        assert_eq!(press(&mut view, &board, &[Key::Suspend]), Act::Suspend);
        assert_eq!(press(&mut view, &board, &[Key::Redraw]), Act::Redraw);
        assert_eq!(press(&mut view, &board, &[Key::Char('q')]), Act::Quit);
    }
}
