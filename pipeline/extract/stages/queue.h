// SPDX-License-Identifier: MIT
// A bounded queue of pointers between two threads. Closing it lets the taker have what is left and then see
// the end.
#ifndef STRATA_STAGES_QUEUE_H
#define STRATA_STAGES_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum { QUEUE_CAPACITY = 1024 };

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *items[QUEUE_CAPACITY];
    size_t first;
    size_t count;
    bool closed;
};

void queue_open(struct queue *queue);
void queue_destroy(struct queue *queue);

// False, and nothing queued, when the queue is closed. Waits while it is full.
bool queue_push(struct queue *queue, void *item);

// The oldest item, waiting for one; NULL once the queue is closed and empty.
void *queue_pop(struct queue *queue);

// The same without waiting: false, and *item NULL, when queue_pop would wait.
bool queue_try_pop(struct queue *queue, void **item);
void queue_close(struct queue *queue); // from either side, any number of times

#endif
