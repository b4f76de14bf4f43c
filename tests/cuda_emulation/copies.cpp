// SPDX-License-Identifier: MIT
// Copies and fills: which memory they may touch, on which device's streams.
#include "emulation.h"

#include <cstring>

namespace emulation {
namespace {

enum class Place { Device, Pinned, Pageable, Wrong };

Place place_of(const void *pointer, size_t bytes) {
    if (in_device_range(pointer)) {
        return is_device(pointer, bytes) ? Place::Device : Place::Wrong;
    }
    return is_pinned(pointer, bytes) ? Place::Pinned : Place::Pageable;
}

// Memory of another device than the stream's is for cudaMemcpyPeerAsync alone.
void must_be_of(const char *what, const void *pointer, cudaStream_t stream) {
    int device = device_of(pointer);
    if (device >= 0 && device != stream_device(stream)) {
        char where[256];
        describe_address(pointer, where, sizeof where);
        violation("a %s on a stream of GPU %d touches %s", what, stream_device(stream), where);
    }
}

bool is_direction(enum cudaMemcpyKind kind, Place out, Place source) {
    switch (kind) {
    case cudaMemcpyHostToHost:
        return out != Place::Device && source != Place::Device;
    case cudaMemcpyHostToDevice:
        return out == Place::Device && source != Place::Device;
    case cudaMemcpyDeviceToHost:
        return out != Place::Device && source == Place::Device;
    case cudaMemcpyDeviceToDevice:
        return out == Place::Device && source == Place::Device;
    default:
        return true;
    }
}

void copy_now(void *out, const void *source, size_t bytes, bool to_host) {
    std::memcpy(out, source, bytes);
    if (to_host) {
        for (size_t i = 0; i + 4 <= bytes; i += 4) {
            uint32_t word;
            std::memcpy(&word, static_cast<unsigned char *>(out) + i, sizeof word);
            counts().poison_words_copied += word == 0xffffffffu;
        }
    }
}

cudaError_t put_copy(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind,
                     cudaStream_t stream) {
    Place to = place_of(out, bytes);
    Place from = place_of(source, bytes);
    if (to == Place::Wrong || from == Place::Wrong || out == nullptr || source == nullptr) {
        return cudaErrorInvalidValue;
    }
    if (!is_direction(kind, to, from)) {
        return cudaErrorInvalidMemcpyDirection;
    }
    must_be_of("copy", out, stream);
    must_be_of("copy", source, stream);
    bool to_host = to != Place::Device;
    if (from == Place::Pageable) { // as the driver does: what is there now is what is copied
        counts().pageable_copies++;
        auto first = static_cast<const unsigned char *>(source);
        auto kept = std::make_shared<std::vector<unsigned char>>(first, first + bytes);
        return queue_work(
            {stream, Kind::Copy, "copy", [=] { copy_now(out, kept->data(), bytes, to_host); }, bytes});
    }
    bool waits = to == Place::Pageable; // nor does it come back before such a copy is over
    counts().pageable_copies += waits;
    return queue_work({stream, Kind::Copy, "copy", [=] { copy_now(out, source, bytes, to_host); }, bytes},
                      waits);
}

cudaError_t put_peer_copy(void *out, int to, const void *source, int from, size_t bytes,
                          cudaStream_t stream) {
    if (!is_device(out, bytes) || !is_device(source, bytes)) {
        return cudaErrorInvalidValue;
    }
    if (device_of(out) != to || device_of(source) != from) {
        violation("cudaMemcpyPeerAsync from GPU %d to GPU %d is given memory of GPUs %d and %d", from, to,
                  device_of(source), device_of(out));
    }
    counts().peer_copies++;
    return queue_work({stream, Kind::Copy, "peer copy", [=] { std::memcpy(out, source, bytes); }, bytes,
                       1u << to | 1u << from});
}

cudaError_t put_set(void *out, int value, size_t bytes, cudaStream_t stream) {
    if (!is_device(out, bytes)) {
        return cudaErrorInvalidValue;
    }
    must_be_of("memset", out, stream);
    return queue_work({stream, Kind::Fill, "memset", [=] { std::memset(out, value, bytes); }});
}

} // namespace
} // namespace emulation

using namespace emulation;

extern "C" cudaError_t cudaMemcpyAsync(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind,
                                       cudaStream_t stream) {
    Call call;
    return call.refused() || bytes == 0 ? call.end() : call.end(put_copy(out, source, bytes, kind, stream));
}

extern "C" cudaError_t cudaMemcpy(void *out, const void *source, size_t bytes, enum cudaMemcpyKind kind) {
    Call call;
    if (call.refused() || bytes == 0) {
        return call.end();
    }
    uint64_t pageable = counts().pageable_copies;
    cudaError_t error = put_copy(out, source, bytes, kind, nullptr);
    counts().pageable_copies = pageable; // only asynchronous ones count
    if (error == cudaSuccess) {
        finish_stream(nullptr);
    }
    return call.end(error != cudaSuccess ? error : device_error(current_device()));
}

extern "C" cudaError_t cudaMemcpyPeerAsync(void *out, int to, const void *source, int from, size_t bytes,
                                           cudaStream_t stream) {
    Call call;
    return call.refused() || bytes == 0 ? call.end()
                                        : call.end(put_peer_copy(out, to, source, from, bytes, stream));
}

extern "C" cudaError_t cudaMemsetAsync(void *out, int value, size_t bytes, cudaStream_t stream) {
    Call call;
    return call.refused() || bytes == 0 ? call.end() : call.end(put_set(out, value, bytes, stream));
}

extern "C" cudaError_t cudaMemset(void *out, int value, size_t bytes) {
    return cudaMemsetAsync(out, value, bytes, nullptr); // on device memory it does not wait
}
