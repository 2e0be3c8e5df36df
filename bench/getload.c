/* getload: reads partitions from their start to their end, one connection, one `get` in flight, bodies not looked at.
 *
 *   getload PORT TOPIC PARTITIONS MAX_SIZE
 *
 * One line of JSON on standard output; exit status 1 if the broker closes the connection.
 * gcc -O2 -o getload getload.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 200
#define RECORD_HEADER 20

static int fd;
static unsigned char *buffer;
static size_t capacity, have;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "getload: %s\n", what);
    exit(1);
}

static void dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect");
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void read_more(void) {
    ssize_t n = read(fd, buffer + have, capacity - have);
    if (n <= 0) fail("the broker closed the connection");
    have += n;
}

/* Read one reply; return its body, or NULL if it is no `value`. */
static unsigned char *read_reply(size_t *length) {
    unsigned char *line;
    have = 0;
    while (!(line = memmem(buffer, have < LINE_SIZE ? have : LINE_SIZE, "\r\n", 2))) read_more();
    int value = !memcmp(buffer, "value ", 6);
    if (!value && memcmp(buffer, "result ", 7)) fail("no reply to a get");
    *length = strtoul((char *)buffer + (value ? 6 : 11), NULL, 10); /* "value LENGTH OPAQUE", "result STATUS LENGTH OPAQUE" */
    line += 2;
    while (have < line - buffer + *length) read_more();
    return value ? line : NULL;
}

/* Return the bytes of whole records at the head of a block. */
static size_t whole_records(const unsigned char *block, size_t length, long *records) {
    size_t position = 0;
    while (position + RECORD_HEADER <= length) {
        uint32_t body;
        memcpy(&body, block + position, sizeof body);
        size_t next = position + RECORD_HEADER + ntohl(body);
        if (next > length) break;
        position = next;
        ++*records;
    }
    return position;
}

int main(int count, char **words) {
    if (count < 5) fail("PORT TOPIC PARTITIONS MAX_SIZE");
    int partitions = atoi(words[3]), max_size = atoi(words[4]);
    capacity = max_size + 65536 + LINE_SIZE;
    buffer = malloc(capacity);
    dial(atoi(words[1]));

    long gets = 0, records = 0, bytes = 0;
    double start = now();
    for (int partition = 0; partition < partitions; partition++) {
        for (long offset = 0;;) {
            char request[LINE_SIZE + 256];
            int n = snprintf(request, sizeof request, "get %s raw %d %ld %d %ld\r\n", words[2], partition, offset, max_size, gets++);
            if (write(fd, request, n) != n) fail("cannot write");
            size_t length;
            unsigned char *block = read_reply(&length);
            if (!block) break;
            size_t whole = whole_records(block, length, &records);
            if (!whole) fail("a record larger than MAX_SIZE");
            offset += whole;
            bytes += length;
        }
    }
    double seconds = now() - start;
    printf("{\"gets\": %ld, \"messages\": %ld, \"bytes\": %ld, \"seconds\": %.3f, \"rate\": %.1f}\n", gets, records, bytes, seconds, bytes / seconds);
    return 0;
}
