/* udprelay: what a relay of datagrams has to do at least, as something to compare others with.
 *
 * One socket for all clients, and for each client's address a socket of its own that is connected to the origin. One
 * thread waits with epoll; a datagram is one receive and one send, and nothing in it is looked at. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base.h"
#include "command.h"

#define EVENTS 128
#define DATAGRAM_BYTES 65536
#define SLOT_BITS 14
#define SLOTS (1U << SLOT_BITS) /* of the table of clients */
#define CLIENTS (SLOTS / 2)     /* more are not served: the table stays half empty, and searches short */
#define BUFFER_BYTES (8 << 20)  /* what relays ask the kernel for; it may give less */

static const char USAGE[] = "usage: udprelay --listen IP:PORT --origin IP:PORT\n";

struct client {
    struct sockaddr_in address;
    int fd; /* connected to the origin */
};

static struct client *clients[SLOTS]; /* by address: the slot of its hash, or the next that was free */
static unsigned client_count;
static struct sockaddr_in origin;
static int epoll, listener;

static int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    return fd;
}

/* The owner is the client whose socket it is; the listener has none. */
static void watch(int fd, struct client *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static struct client *new_client(const struct sockaddr_in *address)
{
    struct client *client = reallocate(NULL, sizeof *client);
    *client = (struct client){.address = *address, .fd = open_socket()};
    if (connect(client->fd, (struct sockaddr *)&origin, sizeof origin) < 0)
        die("connect: %s", strerror(errno));
    watch(client->fd, client);
    client_count++;
    return client;
}

/* The client at that address, a new one if need be; NULL if there are too many. */
static struct client *find_client(const struct sockaddr_in *address)
{
    uint64_t key = (uint64_t)address->sin_addr.s_addr << 16 | address->sin_port;
    unsigned slot = (unsigned)(key * 0x9e3779b97f4a7c15U >> (64 - SLOT_BITS)); /* Fibonacci hashing */
    for (; clients[slot]; slot = (slot + 1) % SLOTS)
        if (clients[slot]->address.sin_addr.s_addr == address->sin_addr.s_addr &&
            clients[slot]->address.sin_port == address->sin_port)
            return clients[slot];
    if (client_count < CLIENTS)
        clients[slot] = new_client(address);
    return clients[slot];
}

/* An error is that of an earlier datagram, or that of one which does not get through: nobody waits for it. */
static void relay_to_origin(void)
{
    static uint8_t datagram[DATAGRAM_BYTES];
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    ssize_t received = recvfrom(listener, datagram, sizeof datagram, 0, (struct sockaddr *)&address, &size);
    if (received < 0)
        return;
    struct client *client = find_client(&address);
    if (client)
        send(client->fd, datagram, (size_t)received, 0);
}

static void relay_to_client(struct client *client)
{
    static uint8_t datagram[DATAGRAM_BYTES];
    ssize_t received = recv(client->fd, datagram, sizeof datagram, 0);
    if (received >= 0)
        sendto(listener, datagram, (size_t)received, 0, (struct sockaddr *)&client->address, sizeof client->address);
}

static void listen_on(const struct sockaddr_in *address)
{
    int bytes = BUFFER_BYTES;
    listener = open_socket();
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (bind(listener, (const struct sockaddr *)address, sizeof *address) < 0)
        die("bind: %s", strerror(errno));
    watch(listener, NULL);
}

static _Noreturn void run(void)
{
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                relay_to_client(events[i].data.ptr);
            else
                relay_to_origin();
        }
    }
}

int main(int argc, char **argv)
{
    enum { LISTEN, ORIGIN };
    static const struct option options[] = {
        {"listen", required_argument, NULL, LISTEN},
        {"origin", required_argument, NULL, ORIGIN},
        {NULL, 0, NULL, 0},
    };
    struct sockaddr_in address = {0};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case LISTEN: address = parse_address("--listen", optarg); break;
        case ORIGIN: origin = parse_address("--origin", optarg); break;
        default: fputs(USAGE, stderr); exit(2);
        }
    }
    if (!address.sin_port || !origin.sin_port || optind < argc) {
        fputs(USAGE, stderr);
        exit(2);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        die("epoll: %s", strerror(errno));
    listen_on(&address);
    run();
}
