"""Ways into a running model: the attention interface of transformers, module hooks, and attention rows."""
