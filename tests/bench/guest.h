/* What a benchmark program has: a debug port to speak to the host, memory above 1 MiB, and nothing else. With NATIVE it is
   a program of the host, whose check sum is the one to reach. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Returns a check sum that must be the same everywhere. */
u32 work(void);

#ifdef NATIVE
/* An array too large for the memory below 640 KiB. */
#define LARGE(type, name, count, address) static type name[count] __attribute__((aligned(64)))
int printf(const char *, ...);
void *memset(void *, int, u32);
void *memcpy(void *, const void *, u32);
int main(void) { return printf("start\nend %08x\n", work()) < 0; }
#else
#define LARGE(type, name, count, address) static type *const name = (type *)(address)

/* One byte to port 0xE9; the host stamps "start" and "end" with its own clock. */
static inline void put(char c) { __asm__ volatile("outb %0, $0xe9" : : "a"(c)); }
static inline void say(const char *text) { while (*text) put(*text++); }
static inline void say_hex(u32 value) { for (int i = 28; i >= 0; i -= 4) put("0123456789abcdef"[value >> i & 15]); }

/* The processor's floating point, as an operating system sets it up. */
static inline void floating_point(void)
{
    u32 value;
    __asm__ volatile("mov %%cr0, %0; and $~0xc, %0; or $0x22, %0; mov %0, %%cr0; fninit" : "=r"(value) : : "memory");
#ifdef __SSE__
    __asm__ volatile("mov %%cr4, %0; or $0x600, %0; mov %0, %%cr4" : "=r"(value) : : "memory");
#endif
}

__attribute__((section(".text.main"))) void main(void)
{
    extern u8 bss_start[], bss_end[];
    floating_point();
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
#endif

/* Numbers that look random, the same everywhere. */
static inline u32 next_random(u32 *seed) { return *seed = *seed * 1664525 + 1013904223, *seed >> 8; }
/* Adds a word to a check sum. */
static inline u32 mix(u32 sum, u32 word) { return ((sum << 5 | sum >> 27) ^ word) * 0x9e3779b1u; }
