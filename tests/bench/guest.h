/* What a benchmark program has: a debug port to speak to the host, memory above 1 MiB, and nothing else. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

/* One byte to port 0xE9; the host stamps "start" and "end" with its own clock. */
static inline void put(char c) { __asm__ volatile("outb %0, $0xe9" : : "a"(c)); }
static inline void say(const char *text) { while (*text) put(*text++); }
static inline void say_hex(u32 value) { for (int i = 28; i >= 0; i -= 4) put("0123456789abcdef"[value >> i & 15]); }

/* The frame of every program: `work` returns a check sum that must be the same everywhere. */
u32 work(void);
__attribute__((section(".text.main"))) void main(void)
{
    extern u8 bss_start[], bss_end[];
    for (u8 *p = bss_start; p < bss_end; p++) *p = 0;
    say("start\n");
    u32 sum = work();
    say("end ");
    say_hex(sum);
    say("\n");
    for (;;) __asm__ volatile("cli; hlt");
}
void *memset(void *to, int byte, u32 count) { u8 *p = to; while (count--) *p++ = (u8)byte; return to; }
void *memcpy(void *to, const void *from, u32 count) { u8 *p = to; const u8 *q = from; while (count--) *p++ = *q++; return to; }
