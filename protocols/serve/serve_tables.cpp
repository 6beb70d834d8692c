#include "protocols/serve/serve_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto session_rows = std::to_array<table_row>({
    {"none", "on_ask", "arriving whole"},
    {"arriving", "on_drain", "none"},
    {"arriving", "on_client_gone on_tick on_withdraw", "none arriving"},
    {"arriving", "on_piece", "none arriving whole"},
    {"arriving", "next_ingests on_ask", "arriving"},
    {"whole", "on_client_gone on_piece on_withdraw", "none whole"},
    {"whole", "on_ask on_tick", "whole"},
    {"whole", "next_ingests", "whole ingesting"},
    {"ingesting", "on_ingested", "none admitted"},
    {"ingesting", "next_ingests on_ask", "ingesting"},
    {"ingesting", "on_client_gone on_drain on_piece on_tick on_withdraw", "ingesting abandoned"},
    {"abandoned", "on_ingested", "none"},
    {"abandoned", "next_ingests on_ask on_client_gone on_piece on_tick on_withdraw", "abandoned"},
    {"admitted", "on_ended", "none"},
    {"admitted", "next_ingests on_ask on_client_gone on_drain on_pictures_used on_piece on_tick on_withdraw",
     "admitted"},
});
constexpr state_table session_table{"session_machine", "question", "none arriving whole ingesting abandoned admitted",
                                    session_rows};

static constexpr auto ingest_rows = std::to_array<table_row>({
    {"none", "on_question", "waiting read"},
    {"waiting", "on_cancel on_tick", "none waiting"},
    {"waiting", "on_question", "waiting"},
    {"waiting", "on_read", "waiting read"},
    {"read", "on_cancel on_read on_tick", "none read"},
    {"read", "on_question", "read"},
});
constexpr state_table ingest_table{"ingest_machine", "question", "none waiting read", ingest_rows};

static constexpr auto ingest_reader_rows = std::to_array<table_row>({
    {"idle", "on_cancel on_read on_tick", "idle"},
    {"idle", "on_question", "idle reading"},
    {"reading", "on_read", "idle reading"},
    {"reading", "on_question", "reading"},
    {"reading", "on_cancel on_tick", "reading stopping"},
    {"stopping", "on_read", "idle reading stopping"},
    {"stopping", "on_cancel on_question on_tick", "stopping"},
});
constexpr state_table ingest_reader_table{"ingest_machine", "reader", "idle reading stopping", ingest_reader_rows};

static constexpr auto front_request_rows = std::to_array<table_row>({
    {"none", "on_cancel", "none"},
    {"none", "on_request", "none waiting started"},
    {"waiting", "on_error on_lost on_pixel_credits on_pixels_written on_recovered on_tick on_tokens",
     "none waiting started"},
    {"waiting", "on_cancel on_request", "none started"},
    {"waiting", "on_ack on_drain", "waiting"},
    {"started", "on_cancel", "none"},
    {"started", "on_error on_lost on_pixels_written on_tick", "none waiting started"},
    {"started", "on_tokens", "none started answering"},
    {"started", "on_ack on_drain on_pixel_credits on_recovered", "started"},
    {"answering", "on_cancel", "none"},
    {"answering", "on_error on_lost on_tick on_tokens", "none answering"},
    {"answering", "on_ack on_pixel_credits on_pixels_written on_recovered", "answering"},
});
constexpr state_table front_request_table{"front_machine", "request", "none waiting started answering",
                                          front_request_rows};

static constexpr auto front_cell_rows = std::to_array<table_row>({
    {"serving", "on_ack on_drain on_error on_pixel_credits on_pixels_written on_recovered on_tick on_tokens",
     "serving"},
    {"serving", "on_lost", "serving returning gone"},
    {"returning", "on_recovered", "serving returning"},
    {"returning", "on_ack on_error on_pixel_credits on_pixels_written on_tick on_tokens", "returning"},
    {"returning", "on_lost", "returning gone"},
    {"gone", "on_pixels_written on_tick", "gone"},
});
constexpr state_table front_cell_table{"front_machine", "cell", "serving returning gone", front_cell_rows};

static constexpr auto encode_room_rows = std::to_array<table_row>({
    {"none", "on_pixels_returned on_revoke", "none"},
    {"none", "on_grant on_pixels", "none parked"},
    {"none", "on_encode", "none ordered"},
    {"parked", "on_lost on_revoke on_tick", "none parked"},
    {"parked", "on_cancel on_grant on_pixels on_pixels_returned", "parked"},
    {"parked", "on_encode", "ordered running"},
    {"ordered", "on_lost on_revoke", "none ordered"},
    {"ordered", "on_tick", "none ordered running"},
    {"ordered", "on_cancel", "none ordered running ended"},
    {"ordered", "on_grant on_pixels_returned", "ordered"},
    {"ordered", "on_pixels", "ordered running"},
    {"ordered", "on_encoded on_written", "running"},
    {"running", "on_encoded", "none encoded writing"},
    {"running", "on_grant on_pixels_returned on_tick", "running"},
    {"running", "on_cancel on_lost", "running ended"},
    {"running", "on_revoke", "ended"},
    {"encoded", "on_cancel on_lost on_revoke on_tick", "none encoded"},
    {"encoded", "on_grant", "none encoded writing"},
    {"encoded", "on_pixels_returned", "encoded"},
    {"writing", "on_written", "none writing ended"},
    {"writing", "on_lost on_pixels_returned on_revoke on_tick", "writing"},
    {"writing", "on_cancel", "writing ended"},
    {"ended", "on_encoded", "none"},
    {"ended", "on_written", "none ended"},
    {"ended", "on_cancel on_grant on_lost on_pixels_returned on_revoke on_tick", "ended"},
});
constexpr state_table encode_room_table{"encode_machine", "room", "none parked ordered running encoded writing ended",
                                        encode_room_rows};

static constexpr auto request_ledger_rows = std::to_array<table_row>({
    {"none", "on_cancel on_quiet", "none"},
    {"none", "take", "none waiting"},
    {"waiting", "on_cancel", "none"},
    {"waiting", "take", "waiting"},
    {"waiting", "start_next", "waiting started"},
    {"started", "end", "none resting"},
    {"started", "on_cancel on_quiet start_next take", "started"},
    {"resting", "on_quiet", "none resting"},
    {"resting", "on_cancel start_next take", "resting"},
});
constexpr state_table request_ledger_table{"request_ledger", "request", "none waiting started resting",
                                           request_ledger_rows};

static constexpr auto prefill_leader_rows = std::to_array<table_row>({
    {"none", "on_arrived on_cancel on_kv_sent on_quiet", "none"},
    {"none", "on_submit", "none waiting gathering running"},
    {"waiting", "on_cancel", "none gathering running"},
    {"waiting", "on_tick", "waiting gathering running"},
    {"waiting", "on_given_up on_kv_sent on_prefilled on_quiet on_vote", "gathering running"},
    {"gathering", "on_arrived", "gathering voting"},
    {"gathering", "on_tick", "gathering resting"},
    {"gathering", "on_cancel", "resting"},
    {"voting", "on_cancel on_tick", "voting"},
    {"voting", "on_vote", "running resting"},
    {"running", "on_given_up on_prefilled", "none sending resting"},
    {"running", "on_cancel on_kv_sent on_quiet on_tick", "running"},
    {"sending", "on_kv_sent", "none sending resting"},
    {"sending", "on_cancel on_quiet on_tick", "sending"},
    {"resting", "on_quiet", "none resting"},
    {"resting", "on_arrived on_cancel on_tick", "resting"},
});
constexpr state_table prefill_leader_table{
    "prefill_leader_machine", "request", "none waiting gathering voting running sending resting", prefill_leader_rows};

static constexpr auto prefill_rows_rows = std::to_array<table_row>({
    {"none", "on_grant on_prefilled on_revoke on_rows_arrived on_rows_returned on_written", "none"},
    {"none", "on_reserve_rows", "none held"},
    {"held", "on_release", "none held"},
    {"held", "on_lost on_reserve_rows on_revoke on_rows_arrived on_rows_returned on_tick on_writers_gone", "held"},
});
constexpr state_table prefill_rows_table{"prefill_member_machine", "room of rows", "none held", prefill_rows_rows};

static constexpr auto prefill_kv_rows = std::to_array<table_row>({
    {"none", "on_reserve_rows on_revoke on_rows_arrived on_rows_returned", "none"},
    {"none", "on_grant", "none granted"},
    {"none", "on_prefilled", "prefilled reported"},
    {"granted", "on_release on_revoke on_tick", "none granted"},
    {"granted", "on_grant on_writers_gone", "granted"},
    {"granted", "on_lost", "granted failing"},
    {"granted", "on_prefilled", "prefilled failing reported"},
    {"prefilled", "on_release on_tick", "none prefilled failing"},
    {"prefilled", "on_revoke on_writers_gone", "prefilled"},
    {"prefilled", "on_lost on_written", "prefilled failing reported"},
    {"prefilled", "on_grant", "prefilled reported"},
    {"failing", "on_release on_tick", "none failing"},
    {"failing", "on_grant on_lost on_revoke on_writers_gone", "failing"},
    {"failing", "on_written", "failing reported"},
    {"failing", "on_prefilled", "reported"},
    {"reported", "on_release on_tick", "none reported"},
    {"reported", "on_grant on_lost on_revoke on_writers_gone", "reported"},
});
constexpr state_table prefill_kv_table{"prefill_member_machine", "room of keys and values",
                                       "none granted prefilled failing reported", prefill_kv_rows};

static constexpr auto decode_leader_rows = std::to_array<table_row>({
    {"none", "on_arrived on_cancel on_left on_quiet", "none"},
    {"none", "on_handover", "none early"},
    {"none", "on_reserve", "none waiting receiving"},
    {"early", "on_cancel", "none"},
    {"early", "on_tick", "none early"},
    {"early", "on_reserve", "waiting receiving resting"},
    {"waiting", "on_cancel", "none receiving"},
    {"waiting", "on_handover on_tick", "waiting"},
    {"waiting", "on_quiet", "receiving"},
    {"receiving", "on_arrived", "receiving voting"},
    {"receiving", "on_handover", "receiving voting resting"},
    {"receiving", "on_tick", "receiving resting"},
    {"receiving", "on_cancel", "resting"},
    {"voting", "on_cancel on_tick", "voting"},
    {"voting", "on_vote", "joined resting"},
    {"joined", "on_cancel on_given_up on_tick", "joined"},
    {"joined", "on_left", "resting"},
    {"resting", "on_quiet", "none resting"},
    {"resting", "on_arrived on_cancel on_given_up on_handover on_left on_tick", "resting"},
});
constexpr state_table decode_leader_table{"decode_leader_machine", "request",
                                          "none early waiting receiving voting joined resting", decode_leader_rows};

static constexpr auto decode_member_rows = std::to_array<table_row>({
    {"none", "on_kv_arrived on_returned", "none"},
    {"none", "on_reserve_blocks", "none receiving"},
    {"receiving", "on_release", "none receiving"},
    {"receiving", "on_lost on_returned on_tick on_writers_gone", "receiving"},
    {"receiving", "on_kv_arrived", "receiving whole"},
    {"whole", "on_release", "none whole"},
    {"whole", "on_lost on_returned on_tick on_writers_gone", "whole"},
});
constexpr state_table decode_member_table{"decode_member_machine", "room", "none receiving whole", decode_member_rows};

static constexpr auto step_rows = std::to_array<table_row>({
    {"between", "on_encode on_join on_leave on_prefill on_vote", "between"},
    {"between", "next", "between planned"},
    {"between", "begin", "between begun"},
    {"between", "warm", "planned"},
    {"planned", "begin", "begun"},
    {"begun", "on_done", "between"},
});
constexpr state_table step_table{"step_machine", "", "between planned begun", step_rows};

} // namespace troupe::protocols
