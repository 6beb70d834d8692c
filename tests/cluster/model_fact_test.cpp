#include "runtime/cluster/model_fact.hpp"

#include <doctest/doctest.h>

#include "protocols/cluster/parity_machine.hpp"
#include "tests/gpu/published_folder.hpp"

using namespace troupe;
using protocols::rank_id;

TEST_CASE("K11: every file of a model that changes what is computed is stated, and one that differs is named") {
  for (const std::string name :
       {"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
        "chat_template.json", "model.safetensors.index.json"}) {
    CAPTURE(name);
    // given: a job of three ranks that read the folder
    const tests::scratch_folder folder{"facts"};
    folder.write("config.json", std::string{"{}"});
    protocols::parity_machine parity{{"front", "encode.0", "encode.1"}};
    REQUIRE(parity.on_agree(rank_id{0}, {{cluster::model_files_fact(folder.path())}}));
    REQUIRE(parity.on_agree(rank_id{1}, {{cluster::model_files_fact(folder.path())}}));
    const auto agreed = parity.on_agree(rank_id{2}, {{cluster::model_files_fact(folder.path())}});
    REQUIRE((agreed && *agreed));
    CHECK((*agreed)->agreed);

    // when: one of them starts anew behind a change of one file
    folder.write(name, std::string{"{\"other\": 1}"});
    parity.forget(rank_id{2});
    const auto judged = parity.on_agree(rank_id{2}, {{cluster::model_files_fact(folder.path())}});

    // then
    REQUIRE((judged && *judged));
    CHECK_FALSE((*judged)->agreed);
    CHECK((*judged)->difference.starts_with("the ranks do not agree on model.files, line "));
    CHECK((*judged)->difference.find("  " + name + " ") != std::string::npos);
    CHECK((*judged)->difference.find("<- encode.1") != std::string::npos);
  }
}
