//! Far transfers: CALL, JMP, RET, IRET, INT, gates, SYSENTER.
