/* SHA-256 of some megabytes (FIPS 180-4), in plain C. */
#include "guest.h"

#define BLOCKS 400000

static u32 constant[64];

static u32 right(u32 x, int n) { return x >> n | x << (32 - n); }

/* The first 32 bits of the fractions of the cube roots of the first primes, in whole numbers. */
static u32 cube_root_fraction(u32 prime)
{
    u64 low = 0, high = (u64)8 << 32;
    while (high - low > 1) {
        u64 middle = (low + high) / 2, whole = middle >> 32, part = middle & 0xffffffff;
        /* (w + f)^3 < p, with f below 1 in units of 2^-32. */
        u64 square = whole * whole * 4294967296ull + 2 * whole * part + (part * part >> 32);
        u64 cube = (square >> 32) * (middle >> 16) + ((square & 0xffffffff) * (middle >> 16) >> 32);
        if (cube >> 16 < prime) low = middle; else high = middle;
    }
    return (u32)low;
}

static void constants(void)
{
    int found = 0;
    for (u32 n = 2; found < 64; n++) {
        int prime = 1;
        for (u32 d = 2; d * d <= n; d++) prime &= n % d != 0;
        if (prime) constant[found++] = cube_root_fraction(n);
    }
}

u32 work(void)
{
    u32 state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    u32 seed = 1;
    constants();
    for (int block = 0; block < BLOCKS; block++) {
        u32 w[64], s[8];
        for (int i = 0; i < 16; i++) w[i] = next_random(&seed);
        for (int i = 16; i < 64; i++) {
            u32 a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (right(a, 7) ^ right(a, 18) ^ a >> 3) + w[i - 7] + (right(b, 17) ^ right(b, 19) ^ b >> 10);
        }
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i++) {
            u32 one = s[7] + (right(s[4], 6) ^ right(s[4], 11) ^ right(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + constant[i] + w[i];
            u32 two = (right(s[0], 2) ^ right(s[0], 13) ^ right(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            for (int j = 7; j > 0; j--) s[j] = s[j - 1];
            s[4] += one;
            s[0] = one + two;
        }
        for (int i = 0; i < 8; i++) state[i] += s[i];
    }
    u32 sum = 0;
    for (int i = 0; i < 8; i++) sum = mix(sum, state[i]);
    return sum;
}
