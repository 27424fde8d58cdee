/* Loops that a compiler makes vector code of: y += a x, a product of matrices, sums of bytes and words. */
#include "guest.h"

#define N 4096
#define M 96
#define ROUNDS 2500

LARGE(float, x, N, 0x200000);
LARGE(float, y, N, 0x210000);
LARGE(double, left, M * M, 0x220000);
LARGE(double, right, M * M, 0x240000);
LARGE(double, product, M * M, 0x260000);
LARGE(u8, bytes, 4 * N, 0x280000);

static void multiply(void)
{
    for (int i = 0; i < M; i++)
        for (int k = 0; k < M; k++) {
            double factor = left[i * M + k];
            for (int j = 0; j < M; j++) product[i * M + j] += factor * right[k * M + j];
        }
}

u32 work(void)
{
    u32 sum = 0, seed = 3;
    for (int i = 0; i < N; i++) x[i] = (float)(int)(next_random(&seed) & 255), y[i] = 0;
    for (int i = 0; i < M * M; i++)
        left[i] = (double)(int)(next_random(&seed) & 15), right[i] = (double)(int)(next_random(&seed) & 15), product[i] = 0;
    for (int i = 0; i < 4 * N; i++) bytes[i] = (u8)next_random(&seed);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) y[i] += 0.5f * x[i];
        u32 total = 0;
        for (int i = 0; i < 4 * N; i++) total += bytes[i] > 100 ? bytes[i] : 1u;
        sum = mix(sum, total + (u32)round);
        if (round % 100 == 0) multiply();
    }
    for (int i = 0; i < N; i++) sum = mix(sum, (u32)(int)y[i]);
    for (int i = 0; i < M * M; i++) sum = mix(sum, (u32)(int)product[i]);
    return sum;
}
