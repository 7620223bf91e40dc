/// Makes the values of a metric's label: an enum whose variants have one each. `ALL` has them in the order of
/// their discriminants, so that `reason as usize` finds its counter in an array that was made from it.
macro_rules! labels {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($variant,)* }

        impl $name {
            const ALL: [Self; [$($label),*].len()] = [$(Self::$variant,)*];

            $vis fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

pub(crate) use labels;
