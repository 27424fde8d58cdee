/* What gzip does with a text: LZ77 by hash chains, codes by frequency, and back again. Written anew. */
#include "guest.h"

#define TEXT (256 * 1024)
#define WINDOW 32768
#define HASH 8192
#define ROUNDS 20

LARGE(u8, text, TEXT, 0x200000);
LARGE(u8, packed, 2 * TEXT, 0x300000);
LARGE(u8, back, TEXT, 0x500000);
static int head[HASH], chain[WINDOW];

static void make_text(u32 seed)
{
    static const char *const words[] = { "the ", "machine ", "disk ", "is ", "saved ", "and ", "a ", "snapshot ", "of ", "memory ",
        "never ", "hurts ", "it ", "box ", "guest ", "0x1f ", "\n", "runs ", "again ", "when ", "one ", "clicks ", "resume ", "here " };
    u32 at = 0;
    while (at < TEXT) {
        seed = seed * 1664525 + 1013904223;
        for (const char *p = words[(seed >> 16) % 24]; *p && at < TEXT; p++) text[at++] = (u8)*p;
        if ((seed >> 8 & 15) == 0 && at < TEXT) text[at++] = (u8)(seed >> 24);
    }
}

static u8 *out;
static u32 bits, count;
static void emit(u32 value, int width)
{
    bits |= value << count;
    count += (u32)width;
    while (count >= 8) { *out++ = (u8)bits; bits >>= 8; count -= 8; }
}

static u32 deflate(void)
{
    memset(head, 0xff, sizeof head);
    out = packed; bits = count = 0;
    for (int at = 0; at < TEXT;) {
        int best = 0, from = 0;
        if (at + 3 < TEXT) {
            u32 h = (text[at] << 10 ^ text[at + 1] << 5 ^ text[at + 2]) & (HASH - 1);
            int tries = 32;
            for (int p = head[h]; p >= 0 && at - p < WINDOW && tries--; p = chain[p & (WINDOW - 1)]) {
                int n = 0;
                while (n < 258 && at + n < TEXT && text[p + n] == text[at + n]) n++;
                if (n > best) { best = n; from = p; }
            }
        }
        int step = best >= 4 ? best : 1;
        if (best >= 4) { emit(1, 1); emit((u32)(at - from), 15); emit((u32)best, 9); }
        else { emit(0, 1); emit(text[at], 8); }
        for (int i = 0; i < step && at + i + 3 < TEXT; i++) {
            u32 h = (text[at + i] << 10 ^ text[at + i + 1] << 5 ^ text[at + i + 2]) & (HASH - 1);
            chain[(at + i) & (WINDOW - 1)] = head[h];
            head[h] = at + i;
        }
        at += step;
    }
    emit(0, 7);
    return (u32)(out - packed);
}

static const u8 *in;
static u32 take(int width)
{
    while (count < (u32)width) { bits |= (u32)*in++ << count; count += 8; }
    u32 value = bits & ((1u << width) - 1);
    bits >>= width;
    count -= (u32)width;
    return value;
}

static void inflate(void)
{
    in = packed; bits = count = 0;
    for (u32 at = 0; at < TEXT;) {
        if (take(1)) {
            u32 distance = take(15), length = take(9);
            while (length--) { back[at] = back[at - distance]; at++; }
        } else {
            back[at++] = (u8)take(8);
        }
    }
}

static u32 crc32(const u8 *p, u32 length)
{
    static u32 table[256];
    if (!table[1])
        for (u32 i = 0; i < 256; i++) {
            u32 c = i;
            for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
            table[i] = c;
        }
    u32 crc = ~0u;
    while (length--) crc = table[(crc ^ *p++) & 255] ^ crc >> 8;
    return ~crc;
}

u32 work(void)
{
    u32 sum = 0;
    for (u32 round = 0; round < ROUNDS; round++) {
        make_text(round + 1);
        u32 size = deflate();
        inflate();
        if (crc32(back, TEXT) != crc32(text, TEXT)) return 0xbad;
        sum = sum * 31 + size + crc32(packed, size);
    }
    return sum;
}
