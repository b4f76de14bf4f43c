// SPDX-License-Identifier: MIT
// What streams (queues.cpp) and events (events.cpp) share.
#pragma once

#include "emulation.h"

namespace emulation {

struct Completion {
    bool done = false;
    double time = 0;
};
using Completed = std::shared_ptr<Completion>;

// As queue_work, but it is not waited for: completed (may be NULL) is what comes of it, after is what must be
// over before (NULL: nothing).
cudaError_t put(const Queued &queued, Completed *completed, Completed after = nullptr);

void wait_for(const Completed &completion);

// Whether it is done by the host's clock. Where it is not, work is done up to the next event.
bool is_reached(const Completed &completion);
void note_recorded(const Completed &completion); // of an event

} // namespace emulation
