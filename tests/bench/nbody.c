/* Planets that pull at each other: additions, multiplications, a square root and a division a pair. */
#include "guest.h"

#define BODIES 5
#define STEPS 500000

static double place[BODIES][3] = {
    { 0, 0, 0 }, { 4.84143144246472090, -1.16032004402742839, -0.103622044471123109 },
    { 8.34336671824457987, 4.12479856412430479, -0.403523417114321381 },
    { 12.8943695621391310, -15.1111514016986312, -0.223307578892655734 },
    { 15.3796971148509165, -25.9193146099879641, 0.179258772950371181 },
};
static double speed[BODIES][3] = {
    { 0, 0, 0 }, { 0.606326392995832, 2.81198684491626, -0.0252183616598876 },
    { -1.01077434617879, 1.82566237123041, 0.00841576137658415 },
    { 1.08279100644153, 0.868713018169608, -0.0108326374013636 },
    { 0.979090732243898, 0.594698998647676, -0.0347559555040781 },
};
static const double mass[BODIES] = { 39.4784176043574, 0.0376936749096657, 0.0112863261319687, 0.00172372405705971, 0.00203368686992463 };

u32 work(void)
{
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double x = place[i][0] - place[j][0], y = place[i][1] - place[j][1], z = place[i][2] - place[j][2];
                double square = x * x + y * y + z * z;
                double pull = 0.01 / (square * __builtin_sqrt(square));
                speed[i][0] -= x * mass[j] * pull;
                speed[i][1] -= y * mass[j] * pull;
                speed[i][2] -= z * mass[j] * pull;
                speed[j][0] += x * mass[i] * pull;
                speed[j][1] += y * mass[i] * pull;
                speed[j][2] += z * mass[i] * pull;
            }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++) place[i][k] += 0.01 * speed[i][k];
    }
    u32 sum = 0;
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) sum = mix(sum, (u32)(int)(place[i][k] * 1e7));
    return sum;
}
