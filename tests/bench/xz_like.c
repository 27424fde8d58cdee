/* The heart of xz: a range coder with adaptive bits, whose branches nobody can foresee. Written anew. */
#include "guest.h"

#define BYTES 600000
#define ROUNDS 6

LARGE(u8, packed, 2 * BYTES, 0x200000);
static u16 chance[256][256];
static u32 range, code, at;
static u64 low;
static u32 pending;
static u8 cache;

static void shift_low(void)
{
    if ((u32)low < 0xff000000u || low >> 32) {
        u8 carry = (u8)(low >> 32), byte = cache;
        do { packed[at++] = (u8)(byte + carry); byte = 0xff; } while (--pending);
        cache = (u8)(low >> 24);
    }
    pending++;
    low = (u64)((u32)low << 8);
}

static void encode(u16 *chance, u32 bit)
{
    u32 bound = (range >> 11) * *chance;
    if (!bit) { range = bound; *chance += (2048 - *chance) >> 5; }
    else { low += bound; range -= bound; *chance -= *chance >> 5; }
    while (range < 1u << 24) { range <<= 8; shift_low(); }
}

static u32 decode(u16 *chance)
{
    u32 bound = (range >> 11) * *chance, bit = code >= bound;
    if (!bit) { range = bound; *chance += (2048 - *chance) >> 5; }
    else { code -= bound; range -= bound; *chance -= *chance >> 5; }
    while (range < 1u << 24) { range <<= 8; code = code << 8 | packed[at++]; }
    return bit;
}

static void reset(void)
{
    for (int i = 0; i < 256; i++) for (int j = 0; j < 256; j++) chance[i][j] = 1024;
    range = 0xffffffff; at = 0;
}

static u8 byte_at(u32 *seed) { u32 r = next_random(seed); return (u8)("the quick brown fox "[r % 20] + (r >> 12 & (r >> 13) & 1)); }

static u32 pack_and_unpack(u32 seed)
{
    u32 sum;
    u8 before = 0;
    reset(); low = 0; pending = 1; cache = 0;
    for (u32 i = 0; i < BYTES; i++) {
        u8 byte = byte_at(&seed);
        u32 node = 1;
        for (int bit = 7; bit >= 0; bit--) { u32 b = byte >> bit & 1; encode(&chance[before][node], b); node = node << 1 | b; }
        before = byte;
    }
    for (int i = 0; i < 5; i++) shift_low();
    sum = at;
    reset(); code = 0; before = 0;
    for (int i = 0; i < 5; i++) code = code << 8 | packed[at++];
    for (u32 i = 0; i < BYTES; i++) {
        u32 node = 1;
        while (node < 256) node = node << 1 | decode(&chance[before][node]);
        before = (u8)node;
        sum = mix(sum, before);
    }
    return sum;
}

u32 work(void)
{
    u32 sum = 0;
    for (u32 round = 0; round < ROUNDS; round++) sum = mix(sum, pack_and_unpack(9 + round));
    return sum;
}
