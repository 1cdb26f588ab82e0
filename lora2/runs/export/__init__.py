"""A trained run as a stock LoRA adapter or a merged model, with its model card."""
