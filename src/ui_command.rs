//! Every action: its text, its tooltip and its shortcut. Buttons, menus and the command palette all read them here.

use eframe::egui::{Key, KeyboardShortcut, Modifiers};

use crate::library::Place;

/// Something that a person can do in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`text` and `tooltip` say what each is")]
pub enum UiCommand {
    NewMachine,
    Start,
    Resume,
    SaveAndClose,
    Pause,
    Reset,
    PowerButton,
    PowerOff,
    DiscardState,
    TypeIntoGuest,
    CtrlAltDelete,
    Insert(Place),
    Eject(Place),
    TakeSnapshot,
    RestoreSnapshot,
    CompareSnapshot,
    DeleteSnapshot,
    CloneSnapshot,
    CancelSnapshot,
    ExportMachine,
    ImportMachine,
    FullScreen,
    OneToOne,
    TabScreen,
    TabSnapshots,
    TabSettings,
    TabMonitor,
    TabInsight,
    NextMachine,
    PreviousMachine,
    LookAgain,
    RemoveMachine,
    SwitchTheme,
    Palette,
    Quit,
}

const PLAIN: Modifiers = Modifiers::NONE;
const CTRL: Modifiers = Modifiers::COMMAND;
const CTRL_SHIFT: Modifiers = Modifiers::COMMAND.plus(Modifiers::SHIFT);
const ALT: Modifiers = Modifiers::ALT;

impl UiCommand {
    /// All of them, in the palette's order.
    pub const ALL: [UiCommand; 45] = [
        UiCommand::Start,
        UiCommand::Resume,
        UiCommand::SaveAndClose,
        UiCommand::Pause,
        UiCommand::Reset,
        UiCommand::PowerButton,
        UiCommand::PowerOff,
        UiCommand::DiscardState,
        UiCommand::TypeIntoGuest,
        UiCommand::CtrlAltDelete,
        UiCommand::TakeSnapshot,
        UiCommand::RestoreSnapshot,
        UiCommand::CompareSnapshot,
        UiCommand::DeleteSnapshot,
        UiCommand::CloneSnapshot,
        UiCommand::CancelSnapshot,
        UiCommand::Insert(Place::FloppyA),
        UiCommand::Eject(Place::FloppyA),
        UiCommand::Insert(Place::FloppyB),
        UiCommand::Eject(Place::FloppyB),
        UiCommand::Insert(Place::Ide0),
        UiCommand::Eject(Place::Ide0),
        UiCommand::Insert(Place::Ide1),
        UiCommand::Eject(Place::Ide1),
        UiCommand::Insert(Place::Ide2),
        UiCommand::Eject(Place::Ide2),
        UiCommand::Insert(Place::Ide3),
        UiCommand::Eject(Place::Ide3),
        UiCommand::FullScreen,
        UiCommand::OneToOne,
        UiCommand::NewMachine,
        UiCommand::ImportMachine,
        UiCommand::ExportMachine,
        UiCommand::RemoveMachine,
        UiCommand::LookAgain,
        UiCommand::TabScreen,
        UiCommand::TabSnapshots,
        UiCommand::TabSettings,
        UiCommand::TabMonitor,
        UiCommand::TabInsight,
        UiCommand::NextMachine,
        UiCommand::PreviousMachine,
        UiCommand::SwitchTheme,
        UiCommand::Palette,
        UiCommand::Quit,
    ];

    /// The label.
    pub fn text(self) -> &'static str {
        self.row().0
    }

    /// What it does, in a sentence.
    pub fn tooltip(self) -> &'static str {
        self.row().1
    }

    /// The keys. They work while the guest does not have the keyboard.
    pub fn shortcut(self) -> Option<KeyboardShortcut> {
        self.row().2.map(|(modifiers, key)| KeyboardShortcut::new(modifiers, key))
    }

    #[rustfmt::skip]
    fn row(self) -> (&'static str, &'static str, Option<(Modifiers, Key)>) {
        match self {
            UiCommand::NewMachine      => ("New machine…",         "Put a new machine together",                                              Some((CTRL, Key::N))),
            UiCommand::Start           => ("Start",                "Switch the machine on",                                                   Some((CTRL, Key::Enter))),
            UiCommand::Resume          => ("Resume",               "Go on exactly where it stopped",                                          Some((CTRL, Key::Enter))),
            UiCommand::SaveAndClose    => ("Save & Close",         "Stop, save everything and put the machine to sleep; the next start goes on from here", Some((CTRL, Key::S))),
            UiCommand::Pause           => ("Pause",                "Stop the guest and its clock until you resume it",                        Some((CTRL, Key::P))),
            UiCommand::Reset           => ("Reset…",               "Press the reset button: the guest starts anew, unsaved work in it is lost", Some((CTRL_SHIFT, Key::R))),
            UiCommand::PowerButton     => ("Power button",         "Press the power button: the guest is asked to shut down",                 Some((CTRL_SHIFT, Key::P))),
            UiCommand::PowerOff        => ("Power off…",           "Pull the plug: unsaved work in the guest is lost",                        Some((CTRL_SHIFT, Key::Q))),
            UiCommand::DiscardState    => ("Discard saved state…", "Throw the saved state away; the next start is from power-on",             None),
            UiCommand::TypeIntoGuest   => ("Type into the guest",  "Give the keyboard to the guest; Ctrl-Alt gives it back",                  Some((CTRL, Key::G))),
            UiCommand::CtrlAltDelete   => ("Send Ctrl-Alt-Delete", "Press Ctrl, Alt and Delete in the guest",                                 None),
            UiCommand::Insert(place)   => (insert_text(place),     "Put another image into this drive",                                        None),
            UiCommand::Eject(place)    => (eject_text(place),      "Take out what is in this drive",                                          None),
            UiCommand::TakeSnapshot    => ("Snapshot…",            "Keep memory and all disks of this instant; the guest goes on",             Some((CTRL_SHIFT, Key::S))),
            UiCommand::RestoreSnapshot => ("Go back to this…",     "Go back to the selected snapshot",                                         None),
            UiCommand::CompareSnapshot => ("Compare with…",        "Say how the selected snapshot differs from another",                       None),
            UiCommand::DeleteSnapshot  => ("Delete snapshot…",     "Delete the selected snapshot and free what only it needs",                 None),
            UiCommand::CloneSnapshot   => ("Open as a new machine…", "Make a new machine of the selected snapshot; this one stays as it is",    None),
            UiCommand::CancelSnapshot  => ("Cancel",               "Stop what is being done with snapshots; nothing is lost",                  None),
            UiCommand::ExportMachine   => ("Export…",              "Write the machine with all its snapshots into one file",                   None),
            UiCommand::ImportMachine   => ("Import…",              "Take over a machine from a file that “Export” wrote",                      None),
            UiCommand::FullScreen      => ("Full screen",          "Show only the guest's screen; Ctrl-Alt, then F11, comes back",            Some((PLAIN, Key::F11))),
            UiCommand::OneToOne        => ("Actual size",          "One pixel of the guest is one pixel here, instead of filling the window", Some((CTRL, Key::Num0))),
            UiCommand::TabScreen       => ("Screen",               "The guest's screen",                                                      Some((ALT, Key::Num1))),
            UiCommand::TabSnapshots    => ("Snapshots",            "Saved states of this machine",                                            Some((ALT, Key::Num2))),
            UiCommand::TabSettings     => ("Settings",             "What the machine is made of",                                             Some((ALT, Key::Num3))),
            UiCommand::TabMonitor      => ("Monitor",              "A console that asks the machine about itself",                            Some((ALT, Key::Num4))),
            UiCommand::TabInsight      => ("Insight",              "Figures of the running machine",                                          Some((ALT, Key::Num5))),
            UiCommand::NextMachine     => ("Next machine",         "Select the next machine in the library",                                  Some((CTRL, Key::PageDown))),
            UiCommand::PreviousMachine => ("Previous machine",     "Select the machine before it in the library",                             Some((CTRL, Key::PageUp))),
            UiCommand::LookAgain       => ("Look again",           "Read the library anew from its folder",                                   Some((PLAIN, Key::F5))),
            UiCommand::RemoveMachine   => ("Remove…",              "Take the machine out of the library; its disk images stay",               None),
            UiCommand::SwitchTheme     => ("Dark or light",        "Switch between the dark and the light look",                              None),
            UiCommand::Palette         => ("All commands…",        "Find a command by its name",                                              Some((CTRL_SHIFT, Key::K))),
            UiCommand::Quit            => ("Quit",                 "Close Hako",                                                              Some((CTRL, Key::Q))),
        }
    }
}

#[rustfmt::skip]
fn insert_text(place: Place) -> &'static str {
    match place {
        Place::FloppyA => "Insert into floppy drive A…",
        Place::FloppyB => "Insert into floppy drive B…",
        Place::Ide0    => "Insert into CD drive (hda)…",
        Place::Ide1    => "Insert into CD drive (hdb)…",
        Place::Ide2    => "Insert into CD drive (hdc)…",
        Place::Ide3    => "Insert into CD drive (hdd)…",
    }
}

#[rustfmt::skip]
fn eject_text(place: Place) -> &'static str {
    match place {
        Place::FloppyA => "Eject floppy drive A",
        Place::FloppyB => "Eject floppy drive B",
        Place::Ide0    => "Eject CD drive (hda)",
        Place::Ide1    => "Eject CD drive (hdb)",
        Place::Ide2    => "Eject CD drive (hdc)",
        Place::Ide3    => "Eject CD drive (hdd)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_share_a_shortcut_but_start_and_resume() {
        for (index, a) in UiCommand::ALL.into_iter().enumerate() {
            for b in &UiCommand::ALL[index + 1..] {
                let both_start = a == UiCommand::Start && *b == UiCommand::Resume;
                assert!(a.shortcut().is_none() || a.shortcut() != b.shortcut() || both_start, "{a:?} {b:?}");
            }
        }
    }
}
