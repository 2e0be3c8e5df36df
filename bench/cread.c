/* cread: the yardstick for reading: answers `get` with bytes of one file, pread and write, nothing else.
 *
 *   cread PORT FILE
 *
 * Serves one connection after the other on 127.0.0.1 until it is killed. Prints "ready" when it listens.
 * gcc -O2 -o cread cread.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (1 << 20)
#define HEAD 64

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void write_all(int peer, const char *bytes, size_t length) {
    while (length) {
        ssize_t n = write(peer, bytes, length);
        if (n < 0) fail("write");
        bytes += n;
        length -= n;
    }
}

static void answer(int peer, int file, const char *request, char *block) {
    long offset, size, opaque;
    if (sscanf(request, "get %*s %*s %*d %ld %ld %ld", &offset, &size, &opaque) != 3) fail("request");
    ssize_t n = pread(file, block + HEAD, size < PIECE ? size : PIECE, offset);
    if (n < 0) fail("pread");
    char head[HEAD];
    int length = n ? sprintf(head, "value %zd %ld\r\n", n, opaque) : sprintf(head, "result 404 0 %ld\r\n", opaque);
    memcpy(block + HEAD - length, head, length);
    write_all(peer, block + HEAD - length, length + n);
}

static void serve(int peer, int file, char *block) {
    char request[1024];
    for (size_t have = 0;;) {
        ssize_t n = read(peer, request + have, sizeof request - 1 - have);
        if (n <= 0) return;
        have += n;
        request[have] = 0;
        if (strstr(request, "\r\n")) {
            answer(peer, file, request, block);
            have = 0;
        }
    }
}

int main(int count, char **words) {
    if (count < 3) fail("PORT FILE");
    int file = open(words[2], O_RDONLY), listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (file < 0) fail(words[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) fail("listen");
    puts("ready");
    fflush(stdout);
    char *block = malloc(HEAD + PIECE);
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer < 0) fail("accept");
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(peer, file, block);
        close(peer);
    }
}
