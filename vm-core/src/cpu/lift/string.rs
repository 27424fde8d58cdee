//! The string instructions: MOVS, CMPS, STOS, LODS, SCAS. With a repeat prefix they are a helper's.

use iced_x86::{Code, OpKind};

use super::{Address, Lifter};
use crate::cpu::helper::operand::segment_of;
use crate::cpu::state::SegReg;
use crate::cpu::uop::{AddressSize, Compare, Form, Op, RAX, RDI, RSI, Repeated, Size, T0, T1, Uop};

impl Lifter<'_> {
    /// Lifts an instruction of this family.
    pub(super) fn string(&mut self) -> bool {
        if self.insn.has_rep_prefix() || self.insn.has_repne_prefix() {
            return false;
        }
        let size = self.element_size();
        match self.insn.code() {
            Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 => {
                self.load_element(T0, RSI, size);
                self.store_element(T0, size);
                self.advance(RSI, size);
                self.advance(RDI, size);
            }
            Code::Cmpsb_m8_m8 | Code::Cmpsw_m16_m16 | Code::Cmpsd_m32_m32 => {
                self.load_element(T0, RSI, size);
                self.load_element(T1, RDI, size);
                self.compare_elements(T0, T1, size);
                self.advance(RSI, size);
                self.advance(RDI, size);
            }
            Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX => {
                self.store_element(RAX, size);
                self.advance(RDI, size);
            }
            Code::Lodsb_AL_m8 | Code::Lodsw_AX_m16 | Code::Lodsd_EAX_m32 => {
                self.load_element(RAX, RSI, size);
                self.advance(RSI, size);
            }
            Code::Scasb_AL_m8 | Code::Scasw_AX_m16 | Code::Scasd_EAX_m32 => {
                self.load_element(T0, RDI, size);
                self.compare_elements(RAX, T0, size);
                self.advance(RDI, size);
            }
            _ => return false,
        }
        true
    }

    /// What a MOVS or STOS with a repeat prefix is, where addresses have 32 bits and its segments are flat.
    pub(super) fn repeated(&self) -> Option<Op> {
        let (string, source) = match self.insn.code() {
            Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 => {
                (Repeated::Movs, Some(segment_of(self.insn)))
            }
            Code::Stosb_m8_AL | Code::Stosw_m16_AX | Code::Stosd_m32_EAX => (Repeated::Stos, None),
            _ => return None,
        };
        let repeats = self.insn.has_rep_prefix() || self.insn.has_repne_prefix();
        let flat = self.mode.flat(SegReg::Es, true) && source.is_none_or(|segment| self.mode.flat(segment, false));
        let plain = repeats && flat && self.index_size() == AddressSize::A32;
        plain.then(|| Op::Repeat { string, size: self.element_size() })
    }

    fn element_size(&self) -> Size {
        match self.insn.memory_size().size() {
            1 => Size::B,
            2 => Size::W,
            _ => Size::D,
        }
    }

    /// The address size, which is that of the index registers.
    fn index_size(&self) -> AddressSize {
        let short = [self.insn.op0_kind(), self.insn.op1_kind()]
            .iter()
            .any(|kind| matches!(kind, OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI));
        if short { AddressSize::A16 } else { AddressSize::A32 }
    }

    /// The element at SI, or at DI in ES.
    fn element(&mut self, index: u8, size: Size, write: bool) -> Address {
        let segment = if index == RSI { segment_of(self.insn) } else { SegReg::Es };
        self.locate_in(segment, self.index_size(), Address::slot(index), size.bytes(), write)
    }

    fn load_element(&mut self, to: u8, index: u8, size: Size) {
        let address = self.element(index, size, false);
        self.emit(address.op(|ea| Op::Load { size, ea }).d(to));
    }

    fn store_element(&mut self, from: u8, size: Size) {
        let address = self.element(RDI, size, true);
        self.emit(address.op(|ea| Op::Store { size, ea }).d(from));
    }

    fn compare_elements(&mut self, left: u8, right: u8, size: Size) {
        self.emit(Uop::new(Op::Compare { compare: Compare::Cmp, form: Form::Reg, size }).a(left).b(right));
    }

    fn advance(&mut self, index: u8, element: Size) {
        let size = if self.index_size() == AddressSize::A16 { Size::W } else { Size::D };
        self.emit(Uop::new(Op::Advance { size }).d(index).imm(element.bytes()));
    }
}
