/* The kinds of work that CoreMark mixes, written anew: linked lists, small matrices, a state machine, CRC. */
#include "guest.h"

#define NODES 200
#define N 24
#define ROUNDS 6000

static u16 crc16(u16 crc, u16 value)
{
    for (int bit = 0; bit < 16; bit++) {
        u16 mix = (crc ^ value) & 1;
        crc >>= 1;
        value >>= 1;
        if (mix) crc ^= 0xa001;
    }
    return crc;
}

struct node { struct node *next; u16 key, value; };
static struct node nodes[NODES];

static struct node *reverse(struct node *list)
{
    struct node *done = 0;
    while (list) { struct node *next = list->next; list->next = done; done = list; list = next; }
    return done;
}

static struct node *merge(struct node *a, struct node *b)
{
    struct node head = {0}, *tail = &head;
    while (a && b) {
        struct node **least = a->key <= b->key ? &a : &b;
        tail->next = *least;
        tail = *least;
        *least = (*least)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static struct node *sort(struct node *list)
{
    if (!list || !list->next) return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) { slow = slow->next; fast = fast->next->next; }
    struct node *right = slow->next;
    slow->next = 0;
    return merge(sort(list), sort(right));
}

static u16 lists(u16 seed, u16 crc)
{
    for (int i = 0; i < NODES; i++) {
        seed = seed * 25173 + 13849;
        nodes[i].key = seed >> 3;
        nodes[i].value = (u16)i;
        nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
    }
    struct node *list = sort(reverse(nodes));
    for (int find = 0; find < 40; find++) {
        u16 wanted = nodes[find * 5].key;
        struct node *at = list;
        while (at && at->key != wanted) at = at->next;
        crc = crc16(crc, at ? at->value : 0xffff);
    }
    return crc;
}

static short a[N][N], b[N][N];
static int c[N][N];

static u16 matrices(u16 seed, u16 crc)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            seed = seed * 25173 + 13849;
            a[i][j] = (short)(seed & 0xff);
            b[i][j] = (short)(seed >> 8);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int sum = 0;
            for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    for (int i = 0; i < N; i++) crc = crc16(crc, (u16)(c[i][i] ^ c[i][N - 1 - i] >> 16));
    return crc;
}

enum state { START, INTEGER, FRACTION, EXPONENT, INVALID, STATES };

static u16 machine(u16 crc)
{
    static const char text[] = "5012,1234.500,-874,+122,-110.700,+0.64400,5.500e+3,-.123e-2,-87e+832,+0.6e-12,T0.3e-1F,-T.T++Tq,1T3.4e4z,34.0e-T^,";
    u32 counts[STATES] = {0};
    enum state state = START;
    for (const char *p = text; *p; p++) {
        char ch = *p;
        int digit = ch >= '0' && ch <= '9';
        if (ch == ',') { counts[state]++; state = START; continue; }
        switch (state) {
        case START: state = digit || ch == '+' || ch == '-' ? INTEGER : ch == '.' ? FRACTION : INVALID; break;
        case INTEGER: if (!digit) state = ch == '.' ? FRACTION : ch == 'e' ? EXPONENT : INVALID; break;
        case FRACTION: if (!digit) state = ch == 'e' ? EXPONENT : INVALID; break;
        case EXPONENT: if (!digit && ch != '+' && ch != '-') state = INVALID; break;
        default: break;
        }
    }
    for (int i = 0; i < STATES; i++) crc = crc16(crc, (u16)counts[i]);
    return crc;
}

u32 work(void)
{
    u16 crc = 0;
    for (u16 round = 0; round < ROUNDS; round++) {
        crc = lists(round, crc);
        crc = matrices(round, crc);
        for (int i = 0; i < 8; i++) crc = machine(crc);
    }
    return crc;
}
