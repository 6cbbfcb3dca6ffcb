"""What the specs close: the enums a client may check against.

Versioned data, because specs grow: `ResponseError.code` had 18 members for a long time.
`tests/core/test_spec.py` compares them with the installed openai SDK and says what is new.
"""

from __future__ import annotations

from typing import Final

SPEC: Final = "openai-python 3.54.0"

# types/responses/response_error.py, ResponseError.code
RESPONSE_ERROR_CODES: Final = (
    "server_error",
    "rate_limit_exceeded",
    "invalid_prompt",
    "data_residency_mismatch",
    "bio_policy",
    "misalignment_policy_violation",
    "vector_store_timeout",
    "invalid_image",
    "invalid_image_format",
    "invalid_base64_image",
    "invalid_image_url",
    "image_too_large",
    "image_too_small",
    "image_parse_error",
    "image_content_policy_violation",
    "invalid_image_mode",
    "image_file_too_large",
    "unsupported_image_media_type",
    "empty_image_file",
    "failed_to_download_image",
    "image_file_not_found",
)

# types/responses/response.py, IncompleteDetails.reason
INCOMPLETE_REASONS: Final = frozenset(
    {"max_output_tokens", "max_messages", "content_filter", "steered"}
)

# Names of request fields, the only words that may stand in `param`: openai-python's
# parameter types for Responses, Chat Completions, completions, embeddings, images, audio
# and moderations, and Anthropic's Messages. An identifier of any other name could be a
# deployment, a host or a key.
FIELD_NAMES: Final = frozenset(
    """
    action actions allowed_domains allowed_tools annotations approval_request_id approve
    arguments audio background best_of budget_tokens bytes cache_control call_id
    chunking_strategy code command container container_id content context_management
    conversation data description detail dimensions display_height display_width echo effort
    encoding_format encrypted_content environment file file_data file_id file_ids file_url
    filename filters format frequency_penalty function function_call functions grammar
    headers id image image_url include include_usage index input input_audio input_fidelity
    input_image input_image_mask input_schema input_text input_tokens instructions
    json_schema language limit logit_bias logprobs mask max_completion_tokens
    max_num_results max_output_length max_output_tokens max_tokens max_tool_calls
    media_type messages metadata min_p modalities mode model moderation n name order output
    output_compression output_format output_schema parallel_tool_calls parameters
    partial_images personality phase prediction presence_penalty previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention properties quality query
    ranking_options reasoning reasoning_effort refusal repetition_penalty require_approval
    required response_format result role safety_identifier schema score_threshold
    search_context_size seed server_description server_label server_url service_tier size
    source speed starting_after status stop stop_sequences store stream stream_format
    stream_options strict style suffix summary system temperature text thinking threshold
    timeout_ms timestamp_granularities token tool_call_id tool_calls tool_choice tools
    top_k top_logprobs top_p truncation type url user user_location value variables
    vector_store_ids verbosity version voice web_search_options
    """.split()  # noqa: SIM905 - 150 quoted words are harder to read
)
