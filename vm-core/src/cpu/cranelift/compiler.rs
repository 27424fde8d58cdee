//! From a request to code: one `cranelift-jit` module for each epoch, dropped whole.

use std::collections::VecDeque;
use std::mem::offset_of;
use std::sync::Arc;
use std::time::Instant;

use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Type, types};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context, control::ControlPlane};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Module, default_libcall_names};

use super::run::{self, Run};
use super::translator::Translator;
use super::{Compiled, PART_CODE, PART_REGIONS, Request, is_over};
use crate::cpu::Cpu;
use crate::cpu::block::log::CodeLog;
use crate::cpu::interp::Exec;

/// Code that all regions of a module share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stubs {
    /// `extern "C" fn(processor, instructions left, region)`.
    pub enter: *const u8,
    /// Called as a region is: leaves by the exit that is the third argument.
    pub leave: *const u8,
    /// [`run::execute_op`],
    pub execute_op: *const u8,
    /// [`run::look_up`],
    pub look_up: *const u8,
    /// [`run::refresh`]
    pub refresh: *const u8,
    /// and [`run::arithmetic_flags`], called such that no register changes; what they return is in [`Run::result`].
    pub flags: *const u8,
}

impl Stubs {
    /// None yet.
    pub const NONE: Self = {
        let none = std::ptr::null();
        Self { enter: none, leave: none, execute_op: none, look_up: none, refresh: none, flags: none }
    };
}

// SAFETY: code is read-only, and lives until the module is dropped.
unsafe impl Send for Stubs {}

/// Address space of a module: more than [`PART_CODE`], because each function begins on a page of its own, which may be a large one.
const ARENA: usize = PART_CODE + (PART_REGIONS << 14) + (1 << 20);

/// A module, and what its stubs are.
struct Generation {
    epoch: u32,
    module: JITModule,
    stubs: Stubs,
}

/// Compiles regions.
pub(super) struct Compiler {
    isa: Arc<dyn TargetIsa>,
    context: Context,
    builder: FunctionBuilderContext,
    /// Of the epochs that are not over those in which something was compiled, the oldest first.
    generations: VecDeque<Generation>,
    epoch: u32,
}

/// Offset of a field of what the engine knows while it runs, from the processor.
pub(super) const fn run_offset(field: usize) -> i32 {
    (offset_of!(Cpu, exec) + offset_of!(Exec, region) + field) as i32
}

/// Offset of [`Exec::left`] from the processor.
pub(super) const LEFT: i32 = (offset_of!(Cpu, exec) + offset_of!(Exec, left)) as i32;
/// Offset of the exit by which a region was left.
const EXIT: i32 = run_offset(offset_of!(Run, exit));

/// Offset of what the functions that keep all registers return.
pub(super) const RESULT: i32 = run_offset(offset_of!(Run, result));

/// How functions are called that keep all registers.
pub(super) fn careful_signature(parameters: &[Type]) -> Signature {
    let mut signature = Signature::new(CallConv::PreserveAll);
    signature.params.extend(parameters.iter().copied().map(AbiParam::new));
    signature
}

/// How a region is called: with the processor, the instructions left, and the exit that leads here.
pub(super) fn region_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([types::I64; 3].map(AbiParam::new));
    signature
}

impl Compiler {
    /// A compiler for this host.
    ///
    /// # Errors
    /// In words, where Cranelift does not know the host.
    pub fn new() -> Result<Self, String> {
        let mut flags = settings::builder();
        let wanted = [
            ("opt_level", "speed"),
            ("is_pic", "false"),
            ("use_colocated_libcalls", "false"),
            // Tail calls need them.
            ("preserve_frame_pointers", "true"),
            ("unwind_info", "false"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
            ("enable_probestack", "false"),
        ];
        for (name, value) in wanted {
            flags.set(name, value).map_err(|error| error.to_string())?;
        }
        let isa = cranelift_native::builder()
            .map_err(|reason| format!("Cranelift does not know this host: {reason}"))?
            .finish(settings::Flags::new(flags))
            .map_err(|error| error.to_string())?;
        if isa.pointer_bytes() != 8 {
            return Err("regions are compiled on 64-bit hosts only".to_string());
        }
        Ok(Self {
            isa,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            generations: VecDeque::new(),
            epoch: 0,
        })
    }

    /// Begins an epoch; code of those that are over is freed.
    pub fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        while self.generations.front().is_some_and(|oldest| is_over(oldest.epoch, epoch)) {
            self.free_oldest();
        }
    }

    fn free_oldest(&mut self) {
        if let Some(Generation { module, .. }) = self.generations.pop_front() {
            // SAFETY: the owner of all regions has forgotten these, and none of them runs.
            unsafe { module.free_memory() };
        }
    }

    /// Takes the module of this epoch, which is to be put back.
    fn take_generation(&mut self) -> Result<Generation, String> {
        if let Some(latest) = self.generations.pop_back_if(|latest| latest.epoch == self.epoch) {
            return Ok(latest);
        }
        let mut builder = JITBuilder::with_isa(self.isa.clone(), default_libcall_names());
        let arena = ArenaMemoryProvider::new_with_size(ARENA).map_err(|error| error.to_string())?;
        builder.memory_provider(Box::new(arena));
        let mut module = JITModule::new(builder);
        let stubs = self.stubs(&mut module)?;
        Ok(Generation { epoch: self.epoch, module, stubs })
    }

    fn define(&mut self, module: &mut JITModule) -> Result<FuncId, String> {
        let id = module.declare_anonymous_function(&self.context.func.signature).map_err(|error| error.to_string())?;
        module
            .define_function_with_control_plane(id, &mut self.context, &mut ControlPlane::default())
            .map_err(|error| format!("{error:?}"))?;
        Ok(id)
    }

    /// The way in, and the way out.
    fn stubs(&mut self, module: &mut JITModule) -> Result<Stubs, String> {
        let config = self.isa.frontend_config();
        self.context.clear();
        let signature = &mut self.context.func.signature;
        signature.call_conv = self.isa.default_call_conv();
        signature.params.extend([types::I64; 3].map(AbiParam::new));
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let block = b.create_block();
        b.append_block_params_for_function_params(block);
        b.switch_to_block(block);
        let region = b.import_signature(region_signature());
        let &[cpu, left, code] = b.block_params(block) else { return Err("three arguments".to_string()) };
        let nothing = b.ins().iconst(types::I64, 0);
        b.ins().call_indirect(region, code, &[cpu, left, nothing]);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(config);
        let enter = self.define(module)?;

        self.context.clear();
        self.context.func.signature = region_signature();
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let block = b.create_block();
        b.append_block_params_for_function_params(block);
        b.switch_to_block(block);
        let &[cpu, left, exit] = b.block_params(block) else { return Err("three arguments".to_string()) };
        b.ins().store(MemFlagsData::trusted(), left, cpu, LEFT);
        b.ins().store(MemFlagsData::trusted(), exit, cpu, EXIT);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(config);
        let leave = self.define(module)?;
        let word = types::I64;
        let half = types::I32;
        let execute_op = self.careful(module, run::execute_op as *const (), &[word; 4], Some(half))?;
        let look_up = self.careful(module, run::look_up as *const (), &[word, half, word, half], Some(half))?;
        let refresh = self.careful(module, run::refresh as *const (), &[word; 2], None)?;
        let flags = self.careful(module, run::arithmetic_flags as *const (), &[word], Some(half))?;
        module.finalize_definitions().map_err(|error| error.to_string())?;
        let [enter, leave, execute_op, look_up, refresh, flags] =
            [enter, leave, execute_op, look_up, refresh, flags].map(|id| module.get_finalized_function(id));
        Ok(Stubs { enter, leave, execute_op, look_up, refresh, flags })
    }

    /// A function that calls another and lets no register change: so calls out of line cost what goes straight through nothing.
    fn careful(
        &mut self,
        module: &mut JITModule,
        function: *const (),
        parameters: &[Type],
        result: Option<Type>,
    ) -> Result<FuncId, String> {
        self.context.clear();
        self.context.func.signature = careful_signature(parameters);
        let mut signature = Signature::new(self.isa.default_call_conv());
        signature.params.extend(parameters.iter().copied().map(AbiParam::new));
        signature.returns.extend(result.map(AbiParam::new));
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let block = b.create_block();
        b.append_block_params_for_function_params(block);
        b.switch_to_block(block);
        let signature = b.import_signature(signature);
        let arguments = b.block_params(block).to_vec();
        let callee = b.ins().iconst(types::I64, function.addr() as i64);
        let call = b.ins().call_indirect(signature, callee, &arguments);
        if let Some(&returned) = b.inst_results(call).first() {
            b.ins().store(MemFlagsData::trusted(), returned, arguments[0], RESULT);
        }
        b.ins().return_(&[]);
        b.seal_all_blocks();
        b.finalize(self.isa.frontend_config());
        self.define(module)
    }

    /// Builds the CLIF of a region into the context.
    fn translate(&mut self, request: &Request, stubs: Stubs) -> super::Memory {
        self.context.clear();
        self.context.func.signature = region_signature();
        let call = self.isa.default_call_conv();
        let config = self.isa.frontend_config();
        let builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        Translator::translate(builder, request, stubs, call, config)
    }

    /// A region as Cranelift gets it.
    #[cfg(test)]
    pub fn clif(&mut self, request: &Request) -> String {
        let generation = self.take_generation().expect("a module");
        self.translate(request, generation.stubs);
        self.generations.push_back(generation);
        self.context.func.display().to_string()
    }

    /// Compiles a region.
    ///
    /// # Errors
    /// In words; the region is then not to be had.
    pub fn compile(&mut self, request: Request) -> Result<Compiled, String> {
        let started = Instant::now();
        let mut generation = self.take_generation()?;
        let stubs = generation.stubs;
        let memory = self.translate(&request, stubs);
        let eip = request.blocks.first().map_or(0, |source| source.block.eip);
        if request.logged {
            CodeLog::region(eip, &self.context.func.display().to_string());
        }
        self.context.want_disasm = request.logged;
        let defined = self.define(&mut generation.module);
        let compiled = self.context.compiled_code();
        let bytes = compiled.map_or(0, |code| code.code_buffer().len());
        if let Some(text) = compiled.and_then(|code| code.vcode.as_deref()) {
            CodeLog::region(eip, text);
        }
        let outcome = defined.and_then(|id| {
            generation.module.finalize_definitions().map_err(|error| error.to_string())?;
            Ok(generation.module.get_finalized_function(id))
        });
        self.generations.push_back(generation);
        let code = outcome?;
        let nanos = started.elapsed().as_nanos() as u64;
        Ok(Compiled { request, code, bytes, nanos, memory, stubs })
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        while !self.generations.is_empty() {
            self.free_oldest();
        }
    }
}
