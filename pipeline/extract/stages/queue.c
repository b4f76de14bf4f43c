// SPDX-License-Identifier: MIT
#include "stages/queue.h"

void queue_open(struct queue *queue) {
    *queue = (struct queue){0};
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, NULL);
}

void queue_destroy(struct queue *queue) {
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
}

bool queue_push(struct queue *queue, void *item) {
    pthread_mutex_lock(&queue->lock);
    while (queue->count == QUEUE_CAPACITY && !queue->closed) {
        pthread_cond_wait(&queue->changed, &queue->lock);
    }
    bool open = !queue->closed;
    if (open) {
        queue->items[(queue->first + queue->count) % QUEUE_CAPACITY] = item;
        queue->count++;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return open;
}

// The oldest item, NULL when there is none. The lock is held.
static void *take(struct queue *queue) {
    void *item = NULL;
    if (queue->count > 0) {
        item = queue->items[queue->first];
        queue->first = (queue->first + 1) % QUEUE_CAPACITY;
        queue->count--;
        pthread_cond_broadcast(&queue->changed);
    }
    return item;
}

void *queue_pop(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed) {
        pthread_cond_wait(&queue->changed, &queue->lock);
    }
    void *item = take(queue);
    pthread_mutex_unlock(&queue->lock);
    return item;
}

bool queue_try_pop(struct queue *queue, void **item) {
    pthread_mutex_lock(&queue->lock);
    bool ready = queue->count > 0 || queue->closed;
    *item = take(queue);
    pthread_mutex_unlock(&queue->lock);
    return ready;
}

void queue_close(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}
