/* putload: sends `put` over many connections, many in flight, to partitions in turn; replies may come in any order.
 *
 *   putload PORT CONNECTIONS IN_FLIGHT BODY_SIZE SECONDS WARM_SECONDS PARTITIONS TOPIC [MESSAGES]
 *
 * Counts what is acknowledged in SECONDS after WARM_SECONDS; with MESSAGES it ends when that many are acknowledged and
 * counts all. One line of JSON on standard output; exit status 1 if the broker closes, stalls or talks nonsense.
 * gcc -O2 -o putload putload.c -lz
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define IN_SIZE (1 << 20)
#define LINE_SIZE 256          /* the longest `put` line, topic included */
#define SENT_SLOTS (1 << 20)   /* more than are ever in flight: the opaque of a put is its slot */
#define LATENCIES (1 << 22)    /* beyond that many the rest is not sampled */
#define STALL_MS 20000

typedef struct {
    int fd, in_flight, in_length;
    size_t out_length;
    char *in, *out;
} Connection;

static int depth, body_size, partitions, crc, stopping;
static long message_limit, issued, acknowledged, counted, errors;
static const char *topic;
static char *body, first_error[200];
static double *sent_at;
static float *latencies;
static size_t latency_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "putload: %s after %ld acknowledged\n", what, acknowledged);
    exit(1);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void dial(Connection *c, int port, int epoll) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->in = malloc(IN_SIZE);
    c->out = malloc((size_t)(body_size + LINE_SIZE) * depth);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

/* Send as many puts as may be in flight, in one write. */
static void fill(Connection *c) {
    while (!stopping && c->in_flight < depth && (!message_limit || issued < message_limit)) {
        int slot = issued % SENT_SLOTS;
        sent_at[slot] = now();
        c->out_length += sprintf(c->out + c->out_length, "put %s %ld %d 0 %d %d\r\n", topic, issued % partitions, body_size, crc, slot);
        memcpy(c->out + c->out_length, body, body_size);
        c->out_length += body_size;
        c->in_flight++;
        issued++;
    }
    for (size_t done = 0; done < c->out_length;) {
        ssize_t n = write(c->fd, c->out + done, c->out_length - done);
        if (n < 0) fail("cannot write");
        done += n;
    }
    c->out_length = 0;
}

/* Read what is there and take all whole replies, "result STATUS LENGTH OPAQUE\r\n" and a body of LENGTH bytes. */
static void take_replies(Connection *c, double time) {
    ssize_t n = read(c->fd, c->in + c->in_length, IN_SIZE - c->in_length);
    if (n <= 0) fail("the broker closed a connection");
    c->in_length += n;
    char *p = c->in, *end = c->in + c->in_length, *line;
    while ((line = memmem(p, end - p, "\r\n", 2))) {
        if (memcmp(p, "result ", 7)) fail("no reply to a put"); /* not sscanf: it measures the whole buffer each time */
        char *number = p + 7;
        int status = strtol(number, &number, 10), length = strtol(number, &number, 10), slot = strtol(number, NULL, 10);
        char *next = line + 2 + length;
        if (next > end) break;
        if (status != 200 && !errors++) snprintf(first_error, sizeof first_error, "%d %.*s", status, length, line + 2);
        if (latency_count < LATENCIES && slot >= 0 && slot < SENT_SLOTS) latencies[latency_count++] = time - sent_at[slot];
        c->in_flight--;
        acknowledged++;
        counted++;
        p = next;
    }
    memmove(c->in, p, end - p);
    c->in_length = end - p;
}

static void print_result(double seconds) {
    qsort(latencies, latency_count, sizeof *latencies, compare);
    for (char *p = first_error; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\') *p = ' ';
    double p50 = latency_count ? latencies[latency_count / 2] : 0;
    double p99 = latency_count ? latencies[(size_t)(latency_count * 0.99)] : 0;
    printf("{\"messages\": %ld, \"seconds\": %.3f, \"rate\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"errors\": %ld, \"error\": \"%s\"}\n",
           counted, seconds, counted / seconds, p50 * 1e3, p99 * 1e3, errors, first_error);
}

int main(int count, char **words) {
    if (count < 9) fail("PORT CONNECTIONS IN_FLIGHT BODY_SIZE SECONDS WARM_SECONDS PARTITIONS TOPIC [MESSAGES]");
    int port = atoi(words[1]), connections = atoi(words[2]);
    depth = atoi(words[3]), body_size = atoi(words[4]), partitions = atoi(words[7]), topic = words[8];
    double seconds = atof(words[5]), warm = atof(words[6]);
    message_limit = count > 9 ? atol(words[9]) : 0;

    body = malloc(body_size);
    for (int i = 0; i < body_size; i++) body[i] = 'a' + i % 26;
    crc = crc32(0, (unsigned char *)body, body_size) & 0x7fffffff;
    sent_at = calloc(SENT_SLOTS, sizeof *sent_at);
    latencies = malloc(LATENCIES * sizeof *latencies);

    int epoll = epoll_create1(0);
    Connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) dial(&all[i], port, epoll);
    double start = now(), end = start + warm + seconds, time = start;
    int warming = warm > 0;
    for (int i = 0; i < connections; i++) fill(&all[i]);

    struct epoll_event events[256];
    while (message_limit ? acknowledged < message_limit : time < end) {
        int n = epoll_wait(epoll, events, 256, STALL_MS);
        time = now();
        if (n <= 0) fail("no answer for 20 s");
        if (warming && time >= start + warm) {
            warming = 0, start = time, counted = 0, latency_count = 0;
        }
        for (int i = 0; i < n; i++) {
            Connection *c = events[i].data.ptr;
            take_replies(c, time);
            fill(c);
        }
    }
    print_result(time - start);
    return 0;
}
