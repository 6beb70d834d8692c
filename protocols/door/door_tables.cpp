#include "protocols/door/door_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto http_session_rows = std::to_array<table_row>({
    {"idle", "on_begun", "header"},
    {"idle", "on_bad_request", "refusing"},
    {"idle", "on_tick", "idle closed"},
    {"idle", "on_peer_closed", "closed"},
    {"header", "on_head", "body answering refusing"},
    {"header", "on_bad_request", "refusing"},
    {"header", "on_tick", "header refusing closed"},
    {"header", "on_peer_closed", "closed"},
    {"body", "on_body_bytes", "body refusing"},
    {"body", "on_whole", "answering"},
    {"body", "on_bad_request", "refusing"},
    {"body", "on_tick", "body refusing closed"},
    {"body", "on_peer_closed", "closed"},
    {"answering", "on_queued", "answering closed"},
    {"answering", "on_written", "answering"},
    {"answering", "on_answer_ended", "idle sending lingering"},
    {"answering", "on_tick", "answering closed"},
    {"answering", "on_peer_closed", "closed"},
    {"refusing", "on_queued on_written", "refusing"},
    {"refusing", "on_answer_ended", "sending lingering"},
    {"refusing", "on_tick", "refusing closed"},
    {"refusing", "on_peer_closed", "closed"},
    {"sending", "on_written", "idle sending lingering"},
    {"sending", "on_tick", "sending closed"},
    {"sending", "on_peer_closed", "closed"},
    {"lingering", "on_tick", "lingering closed"},
    {"lingering", "on_peer_closed", "closed"},
});
constexpr state_table http_session_table{
    "http_session", "", "idle header body answering refusing sending lingering closed", http_session_rows};

static constexpr auto stop_text_rows = std::to_array<table_row>({
    {"going_on", "push", "going_on stopped"},
    {"going_on", "finish", "going_on"},
    {"stopped", "push finish", "stopped"},
});
constexpr state_table stop_text_table{"stop_text", "", "going_on stopped", stop_text_rows};

} // namespace troupe::protocols
