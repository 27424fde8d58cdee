//! Where the bytes of a serial line, a debug port or a monitor go to and come from on the host.

/// One end of a byte stream. Neither call ever waits.
pub trait CharBackend: Send {
    /// Takes as many bytes as it can now and says how many. A backend with nobody at its end swallows them.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Gives bytes that have arrived; 0 where there are none. Arrival raises the machine's attention flag.
    fn read(&mut self, into: &mut [u8]) -> usize;
}
