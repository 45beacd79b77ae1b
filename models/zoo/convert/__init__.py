"""Published weights in foreign formats become safetensors."""
