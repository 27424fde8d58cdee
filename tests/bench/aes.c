/* AES-128 (FIPS 197) by tables, block after block. */
#include "guest.h"

#define BLOCKS 3000000

static u8 box[256];
static u32 table[4][256], key[44];

static u8 twice(u8 x) { return (u8)(x << 1 ^ (x & 0x80 ? 0x1b : 0)); }

static void tables(void)
{
    u8 p = 1, q = 1;
    do {
        p ^= twice(p);
        q ^= (u8)(q << 1); q ^= (u8)(q << 2); q ^= (u8)(q << 4);
        if (q & 0x80) q ^= 9;
        u8 x = (u8)(q ^ (q << 1 | q >> 7) ^ (q << 2 | q >> 6) ^ (q << 3 | q >> 5) ^ (q << 4 | q >> 4));
        box[p] = x ^ 0x63;
    } while (p != 1);
    box[0] = 0x63;
    for (int i = 0; i < 256; i++) {
        u32 s = box[i], d = twice(box[i]);
        table[0][i] = d | s << 8 | s << 16 | (d ^ s) << 24;
        for (int t = 1; t < 4; t++) table[t][i] = table[t - 1][i] << 8 | table[t - 1][i] >> 24;
    }
}

static u32 substitute(u32 w) { return box[w & 255] | box[w >> 8 & 255] << 8 | box[w >> 16 & 255] << 16 | (u32)box[w >> 24] << 24; }

u32 work(void)
{
    tables();
    u32 round_constant = 1;
    for (int i = 0; i < 4; i++) key[i] = 0x03020100 + 0x04040404 * (u32)i;
    for (int i = 4; i < 44; i++) {
        u32 w = key[i - 1];
        if (i % 4 == 0) {
            w = substitute(w >> 8 | w << 24) ^ round_constant;
            round_constant = twice((u8)round_constant);
        }
        key[i] = key[i - 4] ^ w;
    }
    u32 a = 0, b = 1, c = 2, d = 3;
    for (int block = 0; block < BLOCKS; block++) {
        const u32 *k = key;
        a ^= k[0]; b ^= k[1]; c ^= k[2]; d ^= k[3];
        for (int round = 1; round < 10; round++) {
            k += 4;
            u32 e = table[0][a & 255] ^ table[1][b >> 8 & 255] ^ table[2][c >> 16 & 255] ^ table[3][d >> 24] ^ k[0];
            u32 f = table[0][b & 255] ^ table[1][c >> 8 & 255] ^ table[2][d >> 16 & 255] ^ table[3][a >> 24] ^ k[1];
            u32 g = table[0][c & 255] ^ table[1][d >> 8 & 255] ^ table[2][a >> 16 & 255] ^ table[3][b >> 24] ^ k[2];
            u32 h = table[0][d & 255] ^ table[1][a >> 8 & 255] ^ table[2][b >> 16 & 255] ^ table[3][c >> 24] ^ k[3];
            a = e; b = f; c = g; d = h;
        }
        k += 4;
        u32 e = box[a & 255] | box[b >> 8 & 255] << 8 | box[c >> 16 & 255] << 16 | (u32)box[d >> 24] << 24;
        u32 f = box[b & 255] | box[c >> 8 & 255] << 8 | box[d >> 16 & 255] << 16 | (u32)box[a >> 24] << 24;
        u32 g = box[c & 255] | box[d >> 8 & 255] << 8 | box[a >> 16 & 255] << 16 | (u32)box[b >> 24] << 24;
        u32 h = box[d & 255] | box[a >> 8 & 255] << 8 | box[b >> 16 & 255] << 16 | (u32)box[c >> 24] << 24;
        a = e ^ k[0]; b = f ^ k[1]; c = g ^ k[2]; d = h ^ k[3];
    }
    return mix(mix(mix(a, b), c), d);
}
