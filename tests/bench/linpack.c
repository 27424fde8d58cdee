/* A system of linear equations, solved by elimination with pivots: the inner loop is a multiplication and an addition. */
#include "guest.h"

#define N 120
#define ROUNDS 120

LARGE(double, matrix, N * N, 0x200000);
static double right[N];

static void solve(void)
{
    for (int k = 0; k < N; k++) {
        int best = k;
        for (int i = k + 1; i < N; i++)
            if (__builtin_fabs(matrix[i * N + k]) > __builtin_fabs(matrix[best * N + k])) best = i;
        if (best != k) {
            for (int j = k; j < N; j++) {
                double other = matrix[k * N + j];
                matrix[k * N + j] = matrix[best * N + j];
                matrix[best * N + j] = other;
            }
            double other = right[k];
            right[k] = right[best];
            right[best] = other;
        }
        for (int i = k + 1; i < N; i++) {
            double factor = matrix[i * N + k] / matrix[k * N + k];
            double *row = &matrix[i * N], *pivot = &matrix[k * N];
            for (int j = k; j < N; j++) row[j] -= factor * pivot[j];
            right[i] -= factor * right[k];
        }
    }
    for (int i = N - 1; i >= 0; i--) {
        for (int j = i + 1; j < N; j++) right[i] -= matrix[i * N + j] * right[j];
        right[i] /= matrix[i * N + i];
    }
}

u32 work(void)
{
    u32 sum = 0, seed = 7;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            double all = 0;
            for (int j = 0; j < N; j++) {
                matrix[i * N + j] = (double)(int)(next_random(&seed) & 0xffff) / 32768.0 - 1.0 + (i == j ? 8.0 : 0.0);
                all += matrix[i * N + j] * (double)(j % 7 + 1);
            }
            right[i] = all;
        }
        solve();
        for (int i = 0; i < N; i++) sum = mix(sum, (u32)(int)(right[i] * 1e6 + 0.5));
    }
    return sum;
}
